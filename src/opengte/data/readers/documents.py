"""Documents of any format: a corpus file, a BEIR folder or a tree of files in, ``Document`` out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows, OnBadRow, RowError
from opengte.data.readers.beir import is_beir_folder, read_beir_corpus
from opengte.data.readers.detect import suffixes_of
from opengte.data.readers.json_rows import read_json_rows
from opengte.data.readers.report import ReadReport
from opengte.data.readers.row_values import show
from opengte.data.readers.source import read_source_documents
from opengte.errors import DataError
from opengte.records import Document

ID_FIELDS = ("_id", "id", "docid", "doc_id", "pid")
TEXT_FIELDS = ("text", "contents", "content", "body", "passage", "positive")


def read_documents(
    path: str | Path,
    *,
    format: str = "auto",
    on_bad_row: OnBadRow = "error",
    report: ReadReport | None = None,
) -> Iterator[Document]:
    """Yield the documents of a corpus.

    JSON lines with ``_id`` (or id, docid), ``title`` and ``text`` (or contents, body); a BEIR
    folder's corpus; any other folder or file: its functions and sections.

    Args:
        path: file or folder.
        format: ``jsonl``, ``beir``, ``source`` or ``auto``.
        on_bad_row: ``error`` or ``skip``.
        report: counts what was read and skipped.

    Raises:
        DataError: names file and line; nothing to read is an error.
    """
    path = Path(path)
    bad_rows = BadRows(on_bad_row, report)
    format = _format_of(path) if format == "auto" else format
    if format == "source":
        yield from read_source_documents(path, report=bad_rows.report)
        return
    if format == "beir":
        path = next(each for each in sorted(path.glob("corpus.jsonl*")))
        documents = read_beir_corpus(path, bad_rows)
    elif format == "jsonl":
        documents = _read_jsonl(path, bad_rows)
    else:
        raise DataError(f"unknown format {format!r}; it is auto, jsonl, beir or source")
    number = 0
    for document in documents:
        number += 1
        yield document
    bad_rows.report.count("documents", number)
    if not number:
        raise DataError("holds no documents", path=path)


def _format_of(path: Path) -> str:
    if not path.exists():
        raise DataError("no such file or folder", path=path)
    if path.is_dir():
        return "beir" if is_beir_folder(path) else "source"
    return "jsonl" if suffixes_of(path)[0] in (".jsonl", ".ndjson") else "source"


def _read_jsonl(path: Path, bad_rows: BadRows) -> Iterator[Document]:
    """Rows without an id are named by their line; a double id is an error."""
    seen: set[str] = set()
    for number, row in read_json_rows(path, bad_rows):
        try:
            document = _document(row, f"{path.name}:{number}")
            if document.id in seen:
                raise RowError("double id", f"the id {document.id!r} stands twice")
        except RowError as error:
            bad_rows.refuse(error.reason, str(error), path=path, line=number, cause=error)
            continue
        seen.add(document.id)
        yield document


def _document(row: dict[str, Any], origin: str) -> Document:
    text = next((row[field] for field in TEXT_FIELDS if field in row), None)
    if type(text) is not str:
        found = sorted(row)
        raise RowError("no text", f"no field 'text' with a text; found {found}")
    identity = next((row[field] for field in ID_FIELDS if row.get(field) is not None), origin)
    if not isinstance(identity, (str, int)):
        raise RowError("bad id", f"an id must be a text or an integer, got {show(identity)}")
    labels = {name: row.get(name) or "" for name in ("title", "group", "kind")}
    for name, value in labels.items():
        if type(value) is not str:
            raise RowError(f"bad {name}", f"field {name!r} must be a text, got {show(value)}")
    return Document(id=str(identity), text=text, origin=row.get("origin") or origin, **labels)
