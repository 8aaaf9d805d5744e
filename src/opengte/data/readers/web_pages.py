"""Web pages and WARC archives to (title, body), by trafilatura's main-text extraction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.lines import read_whole
from opengte.data.readers.sections import num_words
from opengte.errors import DataError, MissingExtraError
from opengte.records import Pair

MIN_WORDS = 20
MAX_PAGE_BYTES = 8 * 2**20


def read_web_page(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (title, main text) of one HTML file, boilerplate around it removed.

    Raises:
        MissingExtraError: trafilatura is not installed.
    """
    yield from _page_pairs(read_whole(path), "", path, 1, bad_rows)


def read_warc(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (title, main text) of every HTML response of a WARC file, plain or gzip.

    Args:
        path: as Common Crawl, wget and browsers' archivers write it.
        bad_rows: stops at (or counts) a record that is damaged.

    Raises:
        MissingExtraError: warcio or trafilatura is not installed.
    """
    number = 0
    with open(path, "rb") as stream:
        for number, record in enumerate(_records(stream, path, bad_rows), start=1):
            kind = _content_type(record)
            if record.rec_type != "response" or "html" not in kind:
                bad_rows.report.skip(f"{record.rec_type} record ({kind or 'no type'})", path=path)
                continue
            content = record.content_stream().read(MAX_PAGE_BYTES + 1)
            if len(content) > MAX_PAGE_BYTES:
                bad_rows.report.skip("page too large", path=path, line=number)
                continue
            url = record.rec_headers.get_header("WARC-Target-URI") or ""
            yield from _page_pairs(content, url, path, number, bad_rows)
    if not number and not bad_rows.skip:
        raise DataError("no WARC records in this file", path=path)


def _records(stream: Any, path: Path, bad_rows: BadRows) -> Iterator[Any]:
    try:
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed
    except ImportError as error:
        raise MissingExtraError("warcio", extra="html") from error

    class QuietIterator(ArchiveIterator):
        INC_RECORD = ""  # what warcio would print; ``err_count`` tells it to us

    number = wrong = 0
    try:
        records = QuietIterator(stream, no_record_parse=False)
        for record in records:
            if records.err_count > wrong:
                message = "the record before is not as long as its Content-Length says"
                bad_rows.refuse("record of a wrong length", message, path=path, line=number)
                wrong = records.err_count
            number += 1
            yield record
    except (ArchiveLoadFailed, EOFError, OSError, ValueError, AttributeError, KeyError) as error:
        message = f"not a readable WARC record: {str(error).strip()[:120]}"
        bad_rows.refuse("broken record", message, path=path, line=number + 1, cause=error)


def _content_type(record: Any) -> str:
    headers = record.http_headers
    value = headers.get_header("Content-Type") if headers is not None else None
    return (value or "").split(";")[0].strip().lower()


def _page_pairs(
    content: bytes, url: str, path: Path, number: int, bad_rows: BadRows
) -> Iterator[Pair]:
    found = extract_page(content)
    if found is None or not found[0] or num_words(found[1]) < MIN_WORDS:
        reason = (
            "page without a title and a text" if found is None or not found[0] else "short page"
        )
        bad_rows.report.skip(reason, path=path, line=number, detail=url)
        return
    title, text = found
    origin = f"{path.name}:{number}" + (f" {url}" if url else "")
    yield Pair(title, text, group=_host(url), kind="title-body", origin=origin)


def extract_page(content: bytes) -> tuple[str, str] | None:
    """(title, main text) of a page, or None where no main text is found.

    Raises:
        MissingExtraError: trafilatura, or a package that it needs, is not installed.
    """
    try:
        import trafilatura
    except ImportError as error:  # of it, or of a package that it imports
        missing = str(error.name or "").split(".")[0] or "trafilatura"
        raise MissingExtraError(
            "lxml_html_clean" if missing == "lxml" else missing, extra="html"
        ) from error
    try:
        tree = trafilatura.load_html(content)
        if tree is None:
            return None
        found = trafilatura.bare_extraction(
            tree, include_comments=False, include_tables=True, with_metadata=True
        )
    except (ValueError, TypeError, AttributeError, RecursionError, AssertionError):
        return None  # lxml and its callers on bytes that are no page
    if found is None:
        return None
    document = found if isinstance(found, dict) else found.as_dict()
    title = " ".join((document.get("title") or "").replace("\0", "").split()).strip(" ¶")
    text = (document.get("text") or "").replace("\0", "").strip()
    first, _, rest = text.partition("\n")
    if first.strip(" ¶") == title:
        text = rest.strip()  # the title again, which would give the answer away
    return (title, text) if text else None


def _host(url: str) -> str:
    parts = url.split("/")
    return parts[2] if len(parts) > 2 else ""
