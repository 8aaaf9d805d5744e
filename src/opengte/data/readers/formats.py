"""Which reader a path is for: its suffix, then the first bytes of what it holds."""

from __future__ import annotations

from pathlib import Path

from opengte.data.readers.arrow_rows import is_saved_dataset
from opengte.data.readers.beir import is_beir_folder
from opengte.data.readers.detect import suffixes_of
from opengte.data.readers.lines import first_bytes
from opengte.data.readers.tree import LANGUAGES
from opengte.errors import DataError

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".bib": "bibtex",
    ".mbox": "mbox",
    ".nt": "dbpedia",
    ".ttl": "dbpedia",
    ".po": "po",
    ".tmx": "tmx",
    ".warc": "warc",
}
"""Suffix (compression taken off) to the name of a format."""

JSON_MARKS = (
    ((b'"positive_document_ids"',), "tevatron-ids"),
    ((b'"subreddit"', b'"selftext"'), "reddit"),
    ((b'"subreddit"', b'"parent_id"'), "reddit"),
    ((b'"claims"', b'"labels"'), "wikidata"),
)
"""Field names that tell a dump of JSON objects from a table of pairs."""

XML_MARKS = (
    (b"<mediawiki", "wikipedia"),
    (b"<posts", "stack-exchange"),
    (b"<tmx", "tmx"),
    (b"<rss", "jira-xml"),
)
"""First tags of the XML that is read."""

_HEAD_BYTES = 2**16


def format_of(path: Path) -> str:
    """The name of the format of ``path``.

    Raises:
        DataError: it does not exist, or its format cannot be told.
    """
    if path.is_dir():
        return _folder_format(path)
    if not path.exists():
        raise DataError("no such file", path=path)
    suffix, _ = suffixes_of(path)
    name = SUFFIXES.get(suffix, "")
    if name in ("json", "jsonl"):
        return _marked(path, name)
    if suffix == ".xml":
        name = _xml_format(path)
    if not name and suffix in LANGUAGES:
        name = "source"
    if name:
        return name
    known = ", ".join(sorted({*SUFFIXES, ".xml"}))
    raise DataError(
        f"cannot tell the format of a {suffix or 'suffixless'} file; name it with format= "
        f"(by suffix are known {known} and source files)",
        path=path,
    )


def _folder_format(path: Path) -> str:
    if is_beir_folder(path):
        return "beir"
    if is_saved_dataset(path):
        return "arrow"
    if (path / "Posts.xml").exists():
        return "stack-exchange"
    if any(path.glob("R[SC]_*")):
        return "reddit"
    raise DataError(
        "a folder without corpus.jsonl, queries.jsonl and qrels/, nor another known layout; "
        "give the files in it, or read code and documents with read_source",
        path=path,
    )


def _marked(path: Path, name: str) -> str:
    head = first_bytes(path, _HEAD_BYTES)
    for marks, found in JSON_MARKS:
        if all(mark in head for mark in marks):
            return found
    return name


def _xml_format(path: Path) -> str:
    head = first_bytes(path, _HEAD_BYTES)
    for mark, name in XML_MARKS:
        if mark in head:
            return name
    return ""
