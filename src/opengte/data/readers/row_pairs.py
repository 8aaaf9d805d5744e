"""Rows of any table to pairs: one layout a file, told from its first good row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows, NoPairError, RowError
from opengte.data.readers.layouts import Layout, find_layout
from opengte.records import Pair


def pairs_of_rows(
    rows: Iterable[tuple[int, dict[str, Any]]],
    path: Path,
    bad_rows: BadRows,
    layout: Layout | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of (line or row number, fields); a row that has none is refused.

    Raises:
        DataError: ``pairs.jsonl:812: no field 'positive'; found ['answer', 'query']; ...``
    """
    origin = path.name
    to_pairs = None if layout is None else layout.to_pairs
    for number, row in rows:
        try:
            if to_pairs is None:
                to_pairs = find_layout(row).to_pairs
            pairs = to_pairs(row, f"{origin}:{number}")
        except NoPairError as error:
            bad_rows.report.skip(error.reason, path=path, line=number)
            continue
        except RowError as error:
            bad_rows.refuse(error.reason, str(error), path=path, line=number, cause=error)
            continue
        yield from pairs
