"""Pairs and retrieval sets to files that any other tool opens; every file whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from opengte.atomic import atomic_file
from opengte.errors import DataError
from opengte.records import Document, Pair, Query

Write = Callable[[bytes], object]


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> int:
    """Write one JSON object a line; ``read_pairs`` gives the same pairs back.

    Args:
        path: ``.jsonl``, or ``.jsonl.gz`` / ``.jsonl.zst``, which are compressed.
        pairs: any number, one at a time.

    Returns:
        How many were written.

    Raises:
        DataError: a score is not a finite number.
    """
    number = 0
    with _compressed(Path(path)) as write:
        for pair in pairs:
            write(_dumps(pair_row(pair)) + b"\n")
            number += 1
    return number


def pair_row(pair: Pair) -> dict[str, Any]:
    """The JSON object of a pair; fields that hold nothing are left out.

    Raises:
        DataError: a score is not a finite number, which JSON cannot say.
    """
    row: dict[str, Any] = {"query": pair.query, "positive": pair.positive}
    if pair.negatives:
        row["negatives"] = list(pair.negatives)
    if pair.score is not None:
        row["score"] = pair.score
    if pair.negative_scores:
        row["negative_scores"] = list(pair.negative_scores)
    for score in (pair.score or 0.0, *pair.negative_scores):
        if score - score != 0.0:
            raise DataError(f"a score must be a finite number, got {score} at {pair.origin!r}")
    for field in ("group", "kind", "origin"):
        if getattr(pair, field):
            row[field] = getattr(pair, field)
    return row


def write_beir(
    folder: str | Path,
    *,
    corpus: Iterable[Document],
    queries: Iterable[Query],
    qrels: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> None:
    """Write a BEIR folder: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.

    Args:
        folder: made if absent; files of the same names are replaced, each in one step.
        corpus: documents; an id may not stand twice.
        queries: queries; an id may not stand twice.
        qrels: split to query id to document id to grade.

    Raises:
        DataError: a double id, an id with white space at its ends or a tab or line end in it,
            or a judgement of an unknown id; nothing is written then.
    """
    folder = Path(folder)
    documents, questions = list(corpus), list(queries)
    _check_ids([document.id for document in documents], "document")
    _check_ids([query.id for query in questions], "query")
    _check_qrels(qrels, {d.id for d in documents}, {q.id for q in questions})
    with _compressed(folder / "corpus.jsonl") as write:
        for document in documents:
            write(_dumps(document_row(document)) + b"\n")
    with _compressed(folder / "queries.jsonl") as write:
        for query in questions:
            row = {"_id": query.id, "text": query.text, "metadata": {}}
            if query.group:
                row["group"] = query.group
            write(_dumps(row) + b"\n")
    for split, judged in qrels.items():
        with _compressed(folder / "qrels" / f"{split}.tsv") as write:
            write(b"query-id\tcorpus-id\tscore\n")
            for query_id, grades in judged.items():
                for document_id, grade in grades.items():
                    write(f"{query_id}\t{document_id}\t{grade}\n".encode())


def write_documents(path: str | Path, documents: Iterable[Document]) -> int:
    """Write one JSON object a line, as in a BEIR corpus; ``read_documents`` reads it back.

    Returns:
        How many were written.
    """
    number = 0
    with _compressed(Path(path)) as write:
        for document in documents:
            write(_dumps(document_row(document)) + b"\n")
            number += 1
    return number


def document_row(document: Document) -> dict[str, Any]:
    """The line of a BEIR corpus, with our own fields where they hold something."""
    row: dict[str, Any] = {
        "_id": document.id,
        "title": document.title,
        "text": document.text,
        "metadata": {},
    }
    for field in ("group", "kind", "origin"):
        if getattr(document, field):
            row[field] = getattr(document, field)
    return row


def _check_ids(ids: list[str], what: str) -> None:
    seen: set[str] = set()
    for each in ids:
        if each in seen:
            raise DataError(f"the {what} id {each!r} stands twice")
        if not each or each != each.strip() or any(c in each for c in "\t\n\r"):
            raise DataError(f"the {what} id {each!r} cannot stand in a table separated by tabs")
        seen.add(each)


def _check_qrels(
    qrels: Mapping[str, Mapping[str, Mapping[str, int]]], documents: set[str], queries: set[str]
) -> None:
    for split, judged in qrels.items():
        for query, grades in judged.items():
            if query not in queries:
                raise DataError(f"qrels {split!r} judges query {query!r}, which is not given")
            for document in grades:
                if document not in documents:
                    message = f"qrels {split!r} judges document {document!r}, which is not given"
                    raise DataError(message)


def _dumps(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"a text holds a lone surrogate, which UTF-8 cannot say: {error}"
        ) from error


@contextlib.contextmanager
def _compressed(path: Path) -> Iterator[Write]:
    """An atomic file whose suffix says how it is compressed."""
    with atomic_file(path) as stream:
        if path.suffix == ".gz":
            # No name and time in the header: equal pairs make equal bytes.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as packed:
                yield packed.write
        elif path.suffix == ".zst":
            with _zstd_writer(stream) as packed:
                yield packed.write
        else:
            yield stream.write


def _zstd_writer(stream: Any) -> Any:
    import zstandard  # absent on a machine that holds only what training needs

    return zstandard.ZstdCompressor(level=10, write_checksum=True).stream_writer(
        stream, closefd=False
    )
