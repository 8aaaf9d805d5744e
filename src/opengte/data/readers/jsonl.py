"""JSON lines to pairs: one object a line, plain, gzip or zstd, any layout of ``LAYOUTS``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows, RowError
from opengte.data.readers.json_rows import read_json_rows
from opengte.data.readers.layouts import Layout, find_layout
from opengte.records import Pair


def read_jsonl_pairs(
    path: str | Path, bad_rows: BadRows, layout: Layout | None = None
) -> Iterator[Pair]:
    """Yield the pairs of every line; ``layout`` is told from the first good row if not given.

    Raises:
        DataError: ``pairs.jsonl:812: no field 'positive'; found ['answer', 'query']; ...``
    """
    path = Path(path)
    origin = path.name
    to_pairs = None if layout is None else layout.to_pairs
    for number, row in read_json_rows(path, bad_rows):
        try:
            if to_pairs is None:
                to_pairs = find_layout(row).to_pairs
            pairs = to_pairs(row, f"{origin}:{number}")
        except RowError as error:
            bad_rows.refuse(error.reason, str(error), path=path, line=number, cause=error)
            continue
        yield from pairs
