"""A file of real queries with the paths that answer them -> the headline test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opengte.errors import DataError
from opengte.pipeline.corpus.held_out import HeldOut
from opengte.records import Document, Query


@dataclass(frozen=True)
class Question:
    """A real query and the files (or folders) that answer it."""

    text: str
    paths: tuple[str, ...]
    line: int


def read_questions(path: Path) -> list[Question]:
    """Read JSON lines ``{"query": "...", "paths": ["src/json/decoder.py"]}``.

    Raises:
        DataError: naming file and line: not JSON, no query, no paths, or no line at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8, byte {error.start} is not", path=path) from error
    questions = [
        _question(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not questions:
        raise DataError("no queries; expected one JSON object a line", path=path)
    return questions


def searches_of_questions(
    questions: Sequence[Question], documents: Sequence[Document], *, limit: int
) -> HeldOut:
    """Ask the questions among ``documents``; every document of a named path is relevant.

    Args:
        questions: real ones.
        documents: everything that was read; at most ``limit`` of those nobody asked for.
        limit: size of the pool.

    Raises:
        DataError: a path that no document comes from.
    """
    relevant: dict[str, Document] = {}
    qrels: dict[str, dict[str, int]] = {}
    queries = []
    for number, question in enumerate(questions):
        query = Query(f"q{number:05d}", question.text, group=question.paths[0])
        queries.append(query)
        found = [doc for doc in documents if _answers(doc, question.paths)]
        if not found:
            raise DataError(
                f"query {question.text!r}: nothing was read from {', '.join(question.paths)}; "
                "paths are relative to the folder given with --data"
            )
        for document in found:
            relevant[document.id] = document
            qrels.setdefault(query.id, {})[document.id] = 1
    others = [document for document in documents if document.id not in relevant]
    pool = [*relevant.values(), *others[: max(0, limit - len(relevant))]]
    everything = tuple(query.id for query in queries)
    slices = {"all": everything, "name_masked": (), "low_overlap": (), "unseen_package": ()}
    return HeldOut(tuple(queries), tuple(pool), qrels, slices, {})


def _question(line: str, path: Path, number: int) -> Question:
    try:
        row = json.loads(line)
    except ValueError:
        raise DataError("not a JSON object", path=path, line=number) from None
    text = row.get("query") if isinstance(row, dict) else None
    paths = row.get("paths") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError("no field 'query' with a text", path=path, line=number)
    if isinstance(paths, str):
        paths = [paths]
    if not paths or not all(isinstance(each, str) and each for each in paths):
        raise DataError("no field 'paths' with the files that answer it", path=path, line=number)
    return Question(text.strip(), tuple(each.strip("/") for each in paths), number)


def _answers(document: Document, paths: Sequence[str]) -> bool:
    """Whether ``document`` was read from one of ``paths``, given below the --data folder."""
    file = document.origin.rpartition(":")[0]
    below = file.partition("/")[2]
    return any(file == p or below == p or below.startswith(f"{p}/") for p in paths)
