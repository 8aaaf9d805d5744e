"""Pair files and raw dumps of any format: a path in, a stream of ``Pair`` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from opengte.data.readers.arrow_rows import read_arrow_pairs, read_parquet_pairs
from opengte.data.readers.bad_rows import BadRows, OnBadRow, RowError
from opengte.data.readers.beir import read_beir_pairs
from opengte.data.readers.bibtex import read_bibtex
from opengte.data.readers.csv_rows import read_csv_pairs, read_csv_rows
from opengte.data.readers.dbpedia import read_dbpedia
from opengte.data.readers.detect import suffixes_of
from opengte.data.readers.formats import format_of
from opengte.data.readers.gettext_po import read_po
from opengte.data.readers.git_log import read_git_log
from opengte.data.readers.issues import read_jira_xml
from opengte.data.readers.jsonl import read_any_json, read_json_pairs, read_jsonl_pairs
from opengte.data.readers.labelled import Rows, class_pairs, nli_pairs, sts_pairs
from opengte.data.readers.layouts import Layout, layout_for_columns
from opengte.data.readers.mbox import read_mbox
from opengte.data.readers.reddit import read_reddit
from opengte.data.readers.report import ReadReport
from opengte.data.readers.source import read_source
from opengte.data.readers.stack_exchange import read_stack_exchange
from opengte.data.readers.tevatron import read_tevatron_ids
from opengte.data.readers.translations import read_moses, read_parallel_table, read_tmx
from opengte.data.readers.web_pages import read_warc, read_web_page
from opengte.data.readers.wikidata import read_wikidata
from opengte.data.readers.wikipedia import read_wikipedia
from opengte.errors import DataError
from opengte.records import Pair

PairReader = Callable[[Path, BadRows], Iterator[Pair]]
TableReader = Callable[[Path, BadRows, Layout | None], Iterator[Pair]]


def _classes(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    return class_pairs(_rows(path, bad_rows), path, bad_rows, positive="label")


def _class_examples(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    return class_pairs(_rows(path, bad_rows), path, bad_rows, positive="example")


def _sts(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    return sts_pairs(_rows(path, bad_rows), path, bad_rows)


def _nli(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    return nli_pairs(_rows(path, bad_rows), path, bad_rows)


def _source(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    return read_source(path, report=bad_rows.report)


def _rows(path: Path, bad_rows: BadRows) -> Rows:
    if suffixes_of(path)[0] in (".csv", ".tsv"):
        return read_csv_rows(path, bad_rows)
    return read_any_json(path, bad_rows)


TABLE_FORMATS: dict[str, TableReader] = {
    "jsonl": read_jsonl_pairs,
    "json": read_json_pairs,
    "csv": read_csv_pairs,
    "parquet": read_parquet_pairs,
    "arrow": read_arrow_pairs,
}
"""Formats whose rows follow one of ``LAYOUTS``, or the user's own columns."""

PAIR_FORMATS: dict[str, TableReader | PairReader] = {
    **TABLE_FORMATS,
    "beir": read_beir_pairs,
    "bibtex": read_bibtex,
    "class-examples": _class_examples,
    "class-labels": _classes,
    "dbpedia": read_dbpedia,
    "git-log": read_git_log,
    "jira-xml": read_jira_xml,
    "mbox": read_mbox,
    "moses": read_moses,
    "nli": _nli,
    "parallel": read_parallel_table,
    "po": read_po,
    "reddit": read_reddit,
    "source": _source,
    "stack-exchange": read_stack_exchange,
    "sts": _sts,
    "tevatron-ids": read_tevatron_ids,
    "tmx": read_tmx,
    "warc": read_warc,
    "web-page": read_web_page,
    "wikidata": read_wikidata,
    "wikipedia": read_wikipedia,
}
"""Name of a format to the function that reads it."""


def read_pairs(
    path: str | Path,
    *,
    format: str = "auto",
    on_bad_row: OnBadRow = "error",
    report: ReadReport | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of one file or folder, in its order.

    Args:
        path: plain, gzip, bzip2 or zstd.
        format: a name of ``PAIR_FORMATS``, or ``auto``: by suffix, then by content.
        on_bad_row: ``error`` stops at a row that cannot be used, ``skip`` counts it.
        report: counts pairs read and rows skipped, with examples.
        columns: names the fields where no known layout fits:
            ``{"query": "question", "positive": "answer"}``; tables only.

    Raises:
        DataError: names file and line, what was found there and what was expected. A file
            without a single pair is an error too.
        MissingExtraError: the format needs a package that is not installed.
    """
    path = Path(path)
    bad_rows = BadRows(on_bad_row, report)
    name = format_of(path) if format == "auto" else _checked(format)
    pairs = _read(name, path, bad_rows, None if columns is None else dict(columns))
    number = 0
    try:
        for pair in pairs:
            number += 1
            yield pair
    finally:
        if name != "source":  # which counts by kind
            bad_rows.report.count("pairs", number)
    if not number:
        raise DataError(_no_pairs(bad_rows.report), path=path)


def _read(
    name: str, path: Path, bad_rows: BadRows, columns: dict[str, str] | None
) -> Iterator[Pair]:
    if columns is None:
        reader: PairReader = PAIR_FORMATS[name]  # type: ignore[assignment]
        return reader(path, bad_rows)
    if name not in TABLE_FORMATS:
        tables = ", ".join(TABLE_FORMATS)
        raise DataError(f"columns= names fields of {tables}; {name!r} has none", path=path)
    try:
        layout = layout_for_columns(columns)
    except RowError as error:
        raise DataError(str(error)) from error
    return TABLE_FORMATS[name](path, bad_rows, layout)


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
