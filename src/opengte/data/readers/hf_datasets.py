"""Hugging Face ``datasets`` and MTEB tasks to pairs (extras ``hf`` and ``mteb``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows, OnBadRow, RowError
from opengte.data.readers.labelled import class_pairs, sts_pairs
from opengte.data.readers.layouts import layout_for_columns
from opengte.data.readers.report import ReadReport
from opengte.data.readers.row_pairs import pairs_of_rows
from opengte.errors import DataError, MissingExtraError
from opengte.records import Pair


def read_hf_pairs(
    dataset: str | Iterable[Mapping[str, Any]],
    *,
    name: str | None = None,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    on_bad_row: OnBadRow = "error",
    report: ReadReport | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of a dataset, row by row, streamed where it comes from the hub.

    Args:
        dataset: an id of the hub, or a ``Dataset`` / ``IterableDataset`` (any iterable of rows).
        name: the configuration, for an id.
        split: for an id.
        columns: the user's own names, as in ``read_pairs``.
        on_bad_row: ``error`` or ``skip``.
        report: counts.

    Raises:
        MissingExtraError: ``datasets`` is not installed, and ``dataset`` is an id.
        DataError: it cannot be loaded, or a row holds no pair (``id:row``).
    """
    shown = dataset if isinstance(dataset, str) else "dataset"
    rows = _load(dataset, name, split) if isinstance(dataset, str) else dataset
    try:
        layout = None if columns is None else layout_for_columns(dict(columns))
    except RowError as error:
        raise DataError(str(error)) from error
    bad_rows = BadRows(on_bad_row, report)
    numbered = ((number, dict(row)) for number, row in enumerate(rows, start=1))
    count = 0
    for pair in pairs_of_rows(numbered, Path(shown), bad_rows, layout):
        count += 1
        yield pair
    bad_rows.report.count("pairs", count)


def _load(dataset: str, name: str | None, split: str) -> Iterable[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", extra="hf") from error
    try:
        return datasets.load_dataset(dataset, name, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0][:200]
        raise DataError(f"the dataset {dataset!r} cannot be loaded: {reason}") from error


def read_mteb_pairs(
    task: Any,
    *,
    split: str = "train",
    subset: str = "default",
    report: ReadReport | None = None,
) -> Iterator[Pair]:
    """Yield the training pairs of an MTEB task, by its type.

    Retrieval and reranking give (query, relevant document) with documents judged 0 as negatives;
    STS gives similar sentences in both directions, classification (text, label) and bitext
    mining (sentence, translation).

    Args:
        task: a task's name, or a task object whose data may be loaded already.
        split: of the task's data; evaluation splits are refused by nobody but you.
        subset: e.g. the language pair.
        report: counts.

    Raises:
        MissingExtraError: ``mteb`` is not installed, and ``task`` is a name.
        DataError: no such split or subset, or a type that gives no pairs.
    """
    task = _task(task)
    if not getattr(task, "data_loaded", False):
        task.load_data()
    bad_rows = BadRows("skip", report)
    kind, name = task.metadata.type, task.metadata.name
    data = _part(task.dataset, subset, split, name)
    path = Path(f"{name}-{split}")
    if kind in ("Retrieval", "InstructionRetrieval", "Reranking"):
        yield from _retrieval_pairs(data, name)
        return
    rows = [(number, dict(row)) for number, row in enumerate(data, start=1)]
    if kind == "STS":
        yield from sts_pairs(rows, path, bad_rows)
    elif kind in ("Classification", "Clustering"):
        yield from class_pairs(rows, path, bad_rows)
    elif kind in ("BitextMining", "PairClassification"):
        yield from pairs_of_rows(rows, path, bad_rows)
    else:
        raise DataError(f"tasks of type {kind!r} give no pairs ({name})")


def _task(task: Any) -> Any:
    if not isinstance(task, str):
        return task
    try:
        import mteb
    except ImportError as error:
        raise MissingExtraError("mteb", extra="mteb") from error
    try:
        return mteb.get_task(task)
    except KeyError as error:
        raise DataError(f"mteb knows no task {task!r}") from error


def _part(dataset: Any, subset: str, split: str, name: str) -> Any:
    """The data of a subset and split; tasks of one language have no level for subsets."""
    if subset in dataset:
        dataset = dataset[subset]
    if split not in dataset:
        raise DataError(f"{name} has no split {split!r}; found {sorted(map(str, dataset))}")
    return dataset[split]


def _retrieval_pairs(data: Mapping[str, Any], name: str) -> Iterator[Pair]:
    documents = {str(row["id"]): _full_text(row) for row in data["corpus"]}
    queries = {str(row["id"]): str(row["text"]) for row in data["queries"]}
    for query, judged in data["relevant_docs"].items():
        negatives = tuple(documents[d] for d, grade in judged.items() if grade <= 0)
        for document, grade in judged.items():
            if grade > 0 and query in queries and document in documents:
                origin = f"{name}:{query}:{document}"
                yield Pair(queries[query], documents[document], negatives, origin=origin)


def _full_text(row: Mapping[str, Any]) -> str:
    title = row.get("title")
    return f"{title} {row['text']}".strip() if title else str(row["text"])
