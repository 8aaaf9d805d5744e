"""A folder in BEIR's layout -> a retrieval task.

``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``) and
``qrels/SPLIT.tsv`` (query id, document id, grade, with a header line). All three may be compressed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opengte.errors import DataError
from opengte.evaluation.line_files import SUFFIXES, field_of, read_rows, read_tab_rows
from opengte.evaluation.tasks import RetrievalTask
from opengte.records import Document, Query

_EXTRA = ("group", "kind", "origin")


def is_beir_folder(folder: Path) -> bool:
    """Whether there is a corpus in it."""
    return find_file(folder, "corpus") is not None


def beir_splits(folder: Path) -> dict[str, Path]:
    """Files of judgements by split."""
    return {path.name.split(".")[0]: path for path in sorted((folder / "qrels").glob("*.tsv*"))}


def read_beir(folder: Path, split: str) -> RetrievalTask:
    """Read one split.

    Raises:
        DataError: an empty corpus, an id twice, or judgements that name unknown ids.
    """
    corpus = _documents(_needed(folder, "corpus"))
    queries = _queries(_needed(folder, "queries"))
    path = beir_splits(folder)[split]
    qrels = _judgements(path, set(queries), {document.id for document in corpus})
    return RetrievalTask(
        name=folder.name,
        split=split,
        corpus=corpus,
        queries=[query for name, query in queries.items() if name in qrels],
        qrels=qrels,
        notes={"queries without judgements in this split": len(queries) - len(qrels)},
    )


def find_file(folder: Path, stem: str) -> Path | None:
    """``STEM.jsonl`` in a folder, perhaps compressed."""
    paths = (folder / f"{stem}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _needed(folder: Path, stem: str) -> Path:
    path = find_file(folder, stem)
    if path is None:
        raise DataError(f"a BEIR folder needs {stem}.jsonl beside its corpus", path=folder)
    return path


def _documents(path: Path) -> list[Document]:
    documents: dict[str, Document] = {}
    for line, row in read_rows(path):
        name = _identifier(row, path, line)
        if name in documents:
            raise DataError(f"document id {name!r} stands here twice", path=path, line=line)
        documents[name] = Document(
            id=name,
            text=field_of(row, "text", str, path, line),
            title=str(row.get("title") or ""),
            **_extras(row),
        )
    if not documents:
        raise DataError("the corpus is empty; nothing can be found in it", path=path)
    return list(documents.values())


def _queries(path: Path) -> dict[str, Query]:
    queries: dict[str, Query] = {}
    for line, row in read_rows(path):
        name = _identifier(row, path, line)
        if name in queries:
            raise DataError(f"query id {name!r} stands here twice", path=path, line=line)
        text = field_of(row, "text", str, path, line)
        queries[name] = Query(id=name, text=text, group=str(_extras(row).get("group", "")))
    return queries


def _extras(row: dict[str, Any]) -> dict[str, str]:
    """Group, kind and origin, at the top or in BEIR's free ``metadata``."""
    metadata = row.get("metadata")
    facts = {**metadata, **row} if isinstance(metadata, dict) else row
    return {name: str(facts[name]) for name in _EXTRA if facts.get(name)}


def _identifier(row: dict[str, Any], path: Path, line: int) -> str:
    return str(field_of(row, "_id", (str, int), path, line))


def _judgements(path: Path, queries: set[str], documents: set[str]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line, cells in read_tab_rows(path):
        if line == 1 and not _is_grade(cells[-1]):
            continue  # BEIR's header
        if len(cells) == 4:
            cells = [cells[0], cells[2], cells[3]]  # TREC's form: query, iteration, document, grade
        if len(cells) != 3 or not _is_grade(cells[2]):
            raise DataError(
                "expected query id, document id and a whole grade, tabs between them; "
                f"found {cells!r}",
                path=path,
                line=line,
            )
        query, document, grade = cells
        for kind, name, known in (("query", query, queries), ("document", document, documents)):
            if name not in known:
                raise DataError(
                    f"judges the {kind} {name!r}, which is not in this folder; "
                    f"remove the line or add the {kind}",
                    path=path,
                    line=line,
                )
        qrels.setdefault(query, {})[document] = int(grade)
    if not qrels:
        raise DataError("there are no judgements here", path=path)
    return qrels


def _is_grade(cell: str) -> bool:
    return cell.strip().lstrip("-").isdigit()
