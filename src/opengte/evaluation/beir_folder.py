"""A folder in BEIR's layout -> a retrieval task.

``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``, perhaps an
``instruction``) and ``qrels/SPLIT.tsv`` (query id, document id, grade, with a header line). MTEB's
two side files may stand beside them: ``top_ranked.jsonl`` (which documents may be ranked for a
query) and ``qrel_diff.jsonl`` (which ones a changed instruction makes irrelevant), both with rows
of ``query-id`` and ``corpus-ids``. All may be compressed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opengte.errors import DataError
from opengte.evaluation.line_files import SUFFIXES, field_of, read_rows, read_tab_rows
from opengte.evaluation.tasks import InstructionTask, RetrievalTask
from opengte.records import Document, Query

_EXTRA = ("group", "kind", "origin")


def is_beir_folder(folder: Path) -> bool:
    """Whether there is a corpus in it."""
    return find_file(folder, "corpus") is not None


def beir_splits(folder: Path) -> dict[str, Path]:
    """Files of judgements by split."""
    return {path.name.split(".")[0]: path for path in sorted((folder / "qrels").glob("*.tsv*"))}


def read_beir(folder: Path, split: str) -> RetrievalTask:
    """Read one split; queries with instructions make an ``InstructionTask``.

    Raises:
        DataError: an empty corpus, an id twice, or judgements that name unknown ids.
    """
    corpus = _documents(_needed(folder, "corpus"))
    queries, has_instructions = _queries(_needed(folder, "queries"))
    known = {document.id for document in corpus}
    qrels = _judgements(beir_splits(folder)[split], set(queries), known)
    unjudged = len(queries) - len(qrels)
    facts: dict[str, Any] = {
        "name": folder.name,
        "split": split,
        "corpus": corpus,
        "queries": [query for name, query in queries.items() if name in qrels],
        "qrels": qrels,
        "candidates": _id_lists(folder, "top_ranked", known) or None,
        "notes": {"queries without judgements in this split": unjudged} if unjudged else {},
    }
    if not has_instructions:
        return RetrievalTask(**facts)
    changed = _id_lists(folder, "qrel_diff", known) or _made_irrelevant(qrels)
    return InstructionTask(**facts, changed=changed)


def _made_irrelevant(qrels: dict[str, dict[str, int]]) -> dict[str, list[str]]:
    """For each pair of queries ``ID-og``, ``ID-changed``: relevant before, not after."""
    changed = {}
    for name, before in qrels.items():
        after = qrels.get(f"{name.removesuffix('-og')}-changed")
        if name.endswith("-og") and after is not None:
            lost = [document for document, grade in before.items() if grade > 0]
            changed[name.removesuffix("-og")] = [d for d in lost if after.get(d, 0) <= 0]
    return changed


def _id_lists(folder: Path, stem: str, known: set[str]) -> dict[str, list[str]]:
    path = find_file(folder, stem)
    lists: dict[str, list[str]] = {}
    if path is None:
        return lists
    for line, row in read_rows(path):
        query = str(field_of(row, "query-id", (str, int), path, line))
        names = [str(name) for name in field_of(row, "corpus-ids", list, path, line)]
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise DataError(
                f"names the document {unknown!r}, which is not in this folder", path=path, line=line
            )
        lists[query] = names
    return lists


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


def _queries(path: Path) -> tuple[dict[str, Query], bool]:
    """Queries by id, and whether any has an instruction."""
    queries: dict[str, Query] = {}
    has_instructions = False
    for line, row in read_rows(path):
        name = _identifier(row, path, line)
        if name in queries:
            raise DataError(f"query id {name!r} stands here twice", path=path, line=line)
        text = field_of(row, "text", str, path, line)
        if row.get("instruction"):
            has_instructions = True
            text = f"{text} {field_of(row, 'instruction', str, path, line)}"
        queries[name] = Query(id=name, text=text, group=str(_extras(row).get("group", "")))
    return queries, has_instructions


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
