"""Comma or tab separated tables: a file with a header line in, numbered rows out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.detect import suffixes_of
from opengte.data.readers.layouts import Layout
from opengte.data.readers.lines import MAX_LINE_BYTES, decode_line, first_bytes, read_lines
from opengte.data.readers.row_pairs import pairs_of_rows
from opengte.errors import DataError
from opengte.records import Pair

HEAD_BYTES = 2**16
DELIMITERS = "\t,;|"


def read_csv_pairs(path: Path, bad_rows: BadRows, layout: Layout | None = None) -> Iterator[Pair]:
    """Yield the pairs of a table whose header names the columns."""
    yield from pairs_of_rows(read_csv_rows(path, bad_rows), path, bad_rows, layout)


def read_csv_rows(path: str | Path, bad_rows: BadRows) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line the row begins at, column to text).

    The delimiter is the one that the header holds most of. A tab-separated file in which every
    line has the header's width is read without quoting, as GLUE's are written.

    Raises:
        DataError: no header; a row with more or fewer fields; an unclosed quote.
    """
    path = Path(path)
    delimiter, quoted = dialect_of(path)
    rows = _records(path, bad_rows, delimiter, quoted)
    _, header = next(rows, (0, []))
    header = [name.strip() for name in header]
    if not any(header):
        raise DataError("holds no rows: it is empty", path=path)
    if len(set(header)) < len(header):
        raise DataError(f"a column name stands twice in the header {header}", path=path, line=1)
    for number, fields in rows:
        if len(fields) == len(header):
            yield number, dict(zip(header, fields, strict=True))
        elif any(fields):
            message = f"expected {len(header)} fields as in the header, got {len(fields)}"
            bad_rows.refuse("wrong number of fields", message, path=path, line=number)


def dialect_of(path: str | Path) -> tuple[str, bool]:
    """(delimiter, whether quotes mean anything), by the first lines."""
    head = first_bytes(path, HEAD_BYTES).decode("utf-8-sig", "replace")
    lines = head.split("\n")
    if len(lines) > 1:
        lines.pop()  # cut anywhere
    delimiter = "\t" if suffixes_of(path)[0] == ".tsv" else max(DELIMITERS, key=lines[0].count)
    if not lines[0].count(delimiter):
        delimiter = ","
    widths = {line.count(delimiter) for line in lines if line.strip()}
    return delimiter, delimiter != "\t" or len(widths) > 1


def _records(
    path: Path, bad_rows: BadRows, delimiter: str, quoted: bool
) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_LINE_BYTES)
    source = _Lines(path, bad_rows)
    reader = _reader(source, delimiter, quoted)
    while True:
        source.first = 0
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            message = f"not a table with the delimiter {delimiter!r}: {error}"
            line = source.first or source.number
            bad_rows.refuse("broken quoting", message, path=path, line=line, cause=error)
            reader = _reader(source, delimiter, quoted)
            continue
        yield source.first, fields


def _reader(source: _Lines, delimiter: str, quoted: bool) -> Iterator[list[str]]:
    if quoted:
        return csv.reader(source, delimiter=delimiter, strict=True)
    return csv.reader(source, delimiter=delimiter, quoting=csv.QUOTE_NONE)


class _Lines:
    """Text lines for ``csv.reader`` that remember where a record began."""

    def __init__(self, path: Path, bad_rows: BadRows) -> None:
        self._lines = read_lines(path, bad_rows=bad_rows)
        self._path, self._bad_rows = path, bad_rows
        self.number = 0
        self.first = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        for number, line in self._lines:
            self.number = number
            self.first = self.first or number
            try:
                return decode_line(line).replace("\0", "\ufffd") + "\n"
            except ValueError as error:
                self._bad_rows.refuse(
                    "not UTF-8", str(error), path=self._path, line=number, cause=error
                )
        raise StopIteration
