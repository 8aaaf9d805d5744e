"""Pair files of any format: a path in, a stream of ``Pair`` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows, OnBadRow, RowError
from opengte.data.readers.beir import is_beir_folder, read_beir_pairs
from opengte.data.readers.detect import suffixes_of
from opengte.data.readers.jsonl import read_jsonl_pairs
from opengte.data.readers.layouts import Layout, layout_for_columns
from opengte.data.readers.report import ReadReport
from opengte.errors import DataError
from opengte.records import Pair

PairReader = Callable[[Path, BadRows, Layout | None], Iterator[Pair]]


def _beir(path: Path, bad_rows: BadRows, layout: Layout | None) -> Iterator[Pair]:
    return read_beir_pairs(path, bad_rows)


PAIR_FORMATS: dict[str, PairReader] = {
    "jsonl": read_jsonl_pairs,
    "beir": _beir,
}
"""Name of a format to the function that reads it."""

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
"""Suffix (compression taken off) to the name of a format."""


def read_pairs(
    path: str | Path,
    *,
    format: str = "auto",
    on_bad_row: OnBadRow = "error",
    report: ReadReport | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of one file (or BEIR folder), in its order.

    Args:
        path: plain, gzip or zstd.
        format: a name of ``PAIR_FORMATS``, or ``auto``: by suffix, then by content.
        on_bad_row: ``error`` stops at a row that cannot be used, ``skip`` counts it.
        report: counts pairs read and rows skipped, with examples.
        columns: names the fields where no known layout fits:
            ``{"query": "question", "positive": "answer"}``.

    Raises:
        DataError: names file and line, what was found there and what was expected. A file
            without a single pair is an error too.
    """
    path = Path(path)
    bad_rows = BadRows(on_bad_row, report)
    reader = PAIR_FORMATS[_format_of(path) if format == "auto" else _checked(format)]
    layout = None
    if columns is not None:
        try:
            layout = layout_for_columns(dict(columns))
        except RowError as error:
            raise DataError(str(error)) from error
    number = 0
    try:
        for pair in reader(path, bad_rows, layout):
            number += 1
            yield pair
    finally:
        bad_rows.report.count("pairs", number)
    if not number:
        raise DataError(_no_pairs(bad_rows.report), path=path)


def _no_pairs(report: ReadReport) -> str:
    if not report.num_skipped:
        return "holds no pairs: it is empty"
    reason, number = report.skipped.most_common(1)[0]
    return f"holds no pairs; {report.num_skipped:,} rows were skipped ({number:,} x {reason})"


def _checked(name: str) -> str:
    if name not in PAIR_FORMATS:
        known = ", ".join(sorted(PAIR_FORMATS))
        raise DataError(f"unknown format {name!r}; it is 'auto' or one of {known}")
    return name


def _format_of(path: Path) -> str:
    if path.is_dir():
        if is_beir_folder(path):
            return "beir"
        raise DataError(
            "a folder without corpus.jsonl, queries.jsonl and qrels/; give the files in it, "
            "or read code and documents with read_source",
            path=path,
        )
    if not path.exists():
        raise DataError("no such file", path=path)
    suffix, _ = suffixes_of(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    raise DataError(
        f"cannot tell the format of a {suffix or 'suffixless'} file; "
        f"name it with format=, one of {', '.join(sorted(PAIR_FORMATS))}",
        path=path,
    )
