"""Tevatron's rows by id: queries that name documents of a corpus file beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows, RowError
from opengte.data.readers.json_rows import read_json_rows
from opengte.data.readers.layouts import Layout
from opengte.data.readers.row_values import Row, show
from opengte.errors import DataError
from opengte.records import Pair

CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst")


def read_tevatron_ids(
    path: Path, bad_rows: BadRows, layout: Layout | None = None, *, corpus: Path | None = None
) -> Iterator[Pair]:
    """Yield a pair for each of ``positive_document_ids``, with ``negative_document_ids``.

    Args:
        path: rows with ``query_text`` (or ``query``) and lists of document ids.
        bad_rows: what to do with rows that cannot be used.
        layout: not used; every row names its documents in the same way.
        corpus: rows with ``docid``, ``title``, ``text``; by default ``corpus.jsonl`` beside it.

    Raises:
        DataError: no corpus; an id that is not in it.
    """
    texts = _read_corpus(corpus if corpus is not None else _corpus_beside(path), bad_rows)
    for number, row in read_json_rows(path, bad_rows):
        try:
            query = row.get("query_text") or row.get("query")
            if not isinstance(query, str) or not query.strip():
                raise RowError("no query", f"no field 'query_text'; found {sorted(row)}")
            positives = _texts(row, "positive_document_ids", texts)
            negatives = tuple(_texts(row, "negative_document_ids", texts))
            if not positives:
                raise RowError("no positive", "field 'positive_document_ids' is empty")
        except RowError as error:
            bad_rows.refuse(error.reason, str(error), path=path, line=number, cause=error)
            continue
        for positive in positives:
            yield Pair(query, positive, negatives, origin=f"{path.name}:{number}")


def _read_corpus(path: Path, bad_rows: BadRows) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, row in read_json_rows(path, bad_rows):
        identity = row.get("docid", row.get("_id"))
        text = row.get("text")
        if not isinstance(identity, (str, int)) or not isinstance(text, str):
            message = f"expected 'docid' and 'text'; found {sorted(row)}"
            bad_rows.refuse("bad document", message, path=path, line=number)
            continue
        title = row.get("title")
        joined = f"{title} {text}" if isinstance(title, str) and title.strip() else text
        texts[str(identity)] = joined
    return texts


def _corpus_beside(path: Path) -> Path:
    for name in CORPUS_NAMES:
        if (path.parent / name).is_file():
            return path.parent / name
    raise DataError(
        "its rows name documents by id, but no corpus.jsonl stands beside it; "
        "give the file with corpus=",
        path=path,
    )


def _texts(row: Row, field: str, texts: dict[str, str]) -> list[str]:
    ids: Any = row.get(field) or []
    if not isinstance(ids, (list, tuple)):
        raise RowError(f"bad {field}", f"field {field!r} must be a list of ids, got {show(ids)}")
    found = []
    for identity in ids:
        text = texts.get(str(identity))
        if text is None or not text.strip():
            raise RowError("unknown document", f"{field} names {identity!r}, not in the corpus")
        found.append(text)
    return found
