"""PDF files to sections by their outline, or to pages; pypdf reads (extra ``office``)."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from typing import Any

from opengte.data.readers.sections import Section
from opengte.errors import DataError, MissingExtraError

_HYPHEN = re.compile(r"(\w)-\n(?=[a-z])")
_NUMBER_LINE = re.compile(r"^\s*\d{1,4}\s*$", re.MULTILINE)
_NUMBERED = re.compile(r"\s*(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+([^\W\d_][^.!?]{2,80}\??)$")
MAX_PAGES = 5000


def pdf_sections(content: bytes, *, path: str) -> Iterator[Section]:
    """Yield one section for each entry of the outline, else for each numbered heading or page.

    A section's ``line`` is its page, from 1. Where several entries begin on one page, the text
    is cut at their titles if these are found in it.

    Raises:
        DataError: not a PDF, a damaged or an encrypted one.
        MissingExtraError: pypdf is not installed.
    """
    try:
        import pypdf
    except ImportError as error:
        raise MissingExtraError("pypdf", extra="office") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it logs every oddity of a file
    try:
        reader = pypdf.PdfReader(io.BytesIO(content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError("an encrypted PDF; decrypt it first", path=path)
        pages = [page_text(page) for page in reader.pages[:MAX_PAGES]]
        entries = list(_outline(reader, reader.outline, 1))
        title = str((reader.metadata and reader.metadata.title) or "").strip()
    except DataError:
        raise
    except Exception as error:  # pypdf raises builtin errors of any kind on damaged files
        raise DataError(f"no readable PDF: {str(error)[:120]}", path=path) from error
    if title:
        yield Section(title, 1, "", 1)
    if entries:
        yield from _by_outline(pages, entries)
        return
    yield from _by_numbers(pages)


def page_text(page: Any) -> str:
    """The text of a page: hyphens at line ends undone, lone page numbers dropped."""
    text = page.extract_text() or ""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return _HYPHEN.sub(r"\1", _NUMBER_LINE.sub("", text)).strip()


def _outline(reader: Any, items: Any, level: int) -> Iterator[tuple[str, int, int]]:
    """(title, level, page from 0) in reading order; entries that lead nowhere are left out."""
    for item in items:
        if isinstance(item, list):
            yield from _outline(reader, item, level + 1)
            continue
        page = reader.get_destination_page_number(item)
        title = " ".join(str(item.title).split())
        if title and page is not None and page >= 0:
            yield title, level, page


def _by_outline(pages: list[str], entries: list[tuple[str, int, int]]) -> Iterator[Section]:
    starts = [(page, _position(pages, title, page)) for title, _, page in entries]
    ends = [*starts[1:], (len(pages), 0)]
    for (title, level, page), start, end in zip(entries, starts, ends, strict=True):
        text = _between(pages, start, end)
        first, _, rest = text.partition("\n")
        if _letters(title) in _letters(first):
            text = rest  # the heading itself
        yield Section(title, level + 1, text.strip(), page + 1)


def _by_numbers(pages: list[str]) -> Iterator[Section]:
    """Sections by headings like ``2.1 Methods`` whose numbers follow each other; else pages."""
    heading, level, start = "", 0, 1
    last: tuple[int, ...] = ()
    lines: list[str] = []
    for number, page in enumerate(pages, start=1):
        for line in page.split("\n"):
            found = _NUMBERED.match(line)
            here = tuple(map(int, found[1].split("."))) if found else ()
            if found and _follows(last, here):
                yield Section(heading, level, "\n".join(lines).strip(), start)
                heading, level, start = found[2].strip(), len(here) + 1, number
                last, lines = here, []
            else:
                lines.append(line)
        if not last:  # no heading so far: a page is what can be found
            yield Section("", 0, "\n".join(lines).strip(), number)
            lines = []
    yield Section(heading, level, "\n".join(lines).strip(), start)


def _follows(last: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Whether section ``here`` may come after ``last``: 2.1 after 2, 3 after 2.1, 1 at first."""
    if not last:
        return here == (1,)
    if len(here) > len(last):
        return here == (*last, 1)
    return here[:-1] == last[: len(here) - 1] and here[-1] == last[len(here) - 1] + 1


def _position(pages: list[str], title: str, page: int) -> int:
    """Where the title stands on its page; 0 where it is not found."""
    if page >= len(pages):
        return 0
    pattern = r"\s+".join(map(re.escape, title.split()))
    found = re.search(pattern, pages[page])
    return pages[page].rfind("\n", 0, found.start()) + 1 if found else 0


def _between(pages: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return pages[start[0]][start[1] : max(end[1], start[1])] if start[0] < len(pages) else ""
    parts = pages[start[0] : end[0]]
    if parts:
        parts[0] = parts[0][start[1] :]
    if end[0] < len(pages):
        parts.append(pages[end[0]][: end[1]])
    return "\n".join(parts)


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())
