"""JSON to pairs: one object a line (plain, gzip, bzip2, zstd), or one array of objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.json_rows import (
    CONTAINERS,
    parse_json,
    read_json_array,
    read_json_rows,
)
from opengte.data.readers.layouts import Layout
from opengte.data.readers.lines import first_bytes
from opengte.data.readers.row_pairs import pairs_of_rows
from opengte.records import Pair

HEAD_BYTES = 2**16


def read_jsonl_pairs(
    path: str | Path, bad_rows: BadRows, layout: Layout | None = None
) -> Iterator[Pair]:
    """Yield the pairs of every line; an origin is ``file:line``."""
    path = Path(path)
    yield from pairs_of_rows(read_json_rows(path, bad_rows), path, bad_rows, layout)


def read_json_pairs(
    path: str | Path, bad_rows: BadRows, layout: Layout | None = None
) -> Iterator[Pair]:
    """Yield the pairs of a ``.json`` file: an array, or one object a line all the same."""
    path = Path(path)
    yield from pairs_of_rows(read_any_json(path, bad_rows), path, bad_rows, layout)


def read_any_json(path: Path, bad_rows: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of an array, of an object that holds one (``issues``, ``items``), or of JSON lines."""
    head = first_bytes(path, HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"[") or _holds_array(head):
        return read_json_array(path, bad_rows)
    return read_json_rows(path, bad_rows)


def _holds_array(head: bytes) -> bool:
    """Whether an object spans the first line, or is one of a listing's pages."""
    if not head.startswith(b"{"):
        return False
    first, _, rest = head.partition(b"\n")
    try:
        row = parse_json(first)
    except ValueError:
        return bool(rest)  # indented over several lines; one line longer than the head is a row
    return isinstance(row, dict) and any(isinstance(row.get(name), list) for name in CONTAINERS)
