"""Word documents to sections by their heading styles: python-docx reads (extra ``office``)."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator

from opengte.data.readers.sections import Section
from opengte.errors import DataError, MissingExtraError

MAX_UNPACKED_BYTES = 256 * 2**20
_HEADING = re.compile(r"(?:heading|überschrift|titre|título)\s*(\d)", re.IGNORECASE)


def docx_sections(content: bytes, *, path: str) -> Iterator[Section]:
    """Yield the sections; ``line`` is the number of the heading's paragraph.

    Tables are read row by row where they stand.

    Raises:
        DataError: not a Word document, a damaged one, or one that unpacks beyond all measure.
        MissingExtraError: python-docx is not installed.
    """
    try:
        import docx
        from docx.table import Table
    except ImportError as error:
        raise MissingExtraError("python-docx", extra="office") from error
    _check_size(content, path)
    heading, level, line = "", 0, 1
    texts: list[str] = []
    try:
        for number, block in enumerate(docx.Document(io.BytesIO(content)).iter_inner_content(), 1):
            if isinstance(block, Table):
                cells = [[cell.text.strip() for cell in row.cells] for row in block.rows]
                texts.extend(" | ".join(dict.fromkeys(row)) for row in cells)
                continue
            style = block.style.name if block.style is not None else ""
            depth = heading_level(style or "")
            if depth and block.text.strip():
                yield Section(heading, level, _joined(texts), line)
                heading, level, line, texts = " ".join(block.text.split()), depth, number, []
            else:
                texts.append(block.text)
    except DataError:
        raise
    except Exception as error:  # python-docx and lxml raise anything on damaged files
        raise DataError(f"no readable Word document: {str(error)[:120]}", path=path) from error
    yield Section(heading, level, _joined(texts), line)


def heading_level(style: str) -> int:
    """1 for a title or first heading, 2, 3, ...; 0 for body text."""
    if style.lower() in ("title", "titel", "titre", "título"):
        return 1
    found = _HEADING.match(style)
    return int(found[1]) if found else 0


def _check_size(content: bytes, path: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise DataError(f"no readable Word document: {error}", path=path) from error
    if size > MAX_UNPACKED_BYTES:
        message = f"unpacks to {size:,} bytes, more than {MAX_UNPACKED_BYTES:,}"
        raise DataError(message, path=path)


def _joined(texts: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(texts)).replace("\0", "").strip()
