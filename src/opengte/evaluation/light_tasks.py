"""A task -> a smaller one that takes seconds, for use while a model trains.

Scores of a light task are not the task's scores: a smaller corpus is easier. They serve to compare
steps of one run. What is kept depends on the seed alone, so that every step and rank sees the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from opengte.evaluation.tasks import (
    ClassificationTask,
    ClusteringTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    SummarisationTask,
    Task,
)

T = TypeVar("T")


def lighten(task: Task, *, max_items: int = 200, max_documents: int = 2_000, seed: int = 0) -> Task:
    """Keep at most ``max_items`` queries, pairs or texts, and ``max_documents`` behind them.

    Documents are what is searched, or learned from.
    A corpus keeps all documents that the kept queries are judged on, even beyond the limit. Bitext
    stays whole: it is cut by giving fewer languages.
    """
    rng = np.random.default_rng(seed)
    if isinstance(task, RetrievalTask):
        return _lighter_retrieval(task, max_items, max_documents, rng)
    if isinstance(task, RerankingTask):
        rows = _sample(len(task.queries), max_items, rng)
        return replace(
            task,
            queries=_take(task.queries, rows),
            candidates=_take(task.candidates, rows),
            labels=_take(task.labels, rows),
        )
    if isinstance(task, StsTask):
        rows = _sample(len(task.scores), max_items, rng)
        return replace(
            task,
            sentences1=_take(task.sentences1, rows),
            sentences2=_take(task.sentences2, rows),
            scores=_take(task.scores, rows),
        )
    if isinstance(task, PairClassificationTask):
        rows = _sample(len(task.labels), max_items, rng)
        return replace(
            task,
            sentences1=_take(task.sentences1, rows),
            sentences2=_take(task.sentences2, rows),
            labels=_take(task.labels, rows),
        )
    if isinstance(task, ClassificationTask):
        rows = _sample(len(task.labels), max_items, rng)
        train = _one_of_each(task.train_labels, max_documents, rng)
        return replace(
            task,
            texts=_take(task.texts, rows),
            labels=_take(task.labels, rows),
            train_texts=_take(task.train_texts, train),
            train_labels=_take(task.train_labels, train),
        )
    if isinstance(task, ClusteringTask):
        rows = _one_of_each(task.labels, max_items, rng)
        return replace(task, texts=_take(task.texts, rows), labels=_take(task.labels, rows))
    if isinstance(task, SummarisationTask):
        rows = _sample(len(task.scores), max_items, rng)
        return replace(
            task,
            human=_take(task.human, rows),
            machine=_take(task.machine, rows),
            scores=_take(task.scores, rows),
        )
    return task


def _lighter_retrieval(
    task: RetrievalTask, max_items: int, max_documents: int, rng: np.random.Generator
) -> RetrievalTask:
    queries = _take(task.queries, _sample(len(task.queries), max_items, rng))
    qrels = {query.id: task.qrels[query.id] for query in queries}
    needed = {name for grades in qrels.values() for name in grades}
    if task.candidates is not None:
        needed |= {name for query in queries for name in task.candidates.get(query.id, ())}
    others = [row for row, document in enumerate(task.corpus) if document.id not in needed]
    room = max(0, max_documents - len(needed))
    kept = {others[row] for row in _sample(len(others), room, rng)}
    corpus = [d for row, d in enumerate(task.corpus) if d.id in needed or row in kept]
    return replace(task, corpus=corpus, queries=queries, qrels=qrels)


def _sample(size: int, limit: int, rng: np.random.Generator) -> list[int]:
    """Row numbers in their order."""
    if size <= limit:
        return list(range(size))
    return sorted(rng.choice(size, size=limit, replace=False).tolist())


def _one_of_each(labels: Sequence[str], limit: int, rng: np.random.Generator) -> list[int]:
    """Row numbers that hold every label at least once, whatever the limit."""
    order = rng.permutation(len(labels)).tolist()
    first: dict[str, int] = {}
    for row in order:
        first.setdefault(labels[row], row)
    kept = set(first.values())
    for row in order:
        if len(kept) >= limit:
            break
        kept.add(row)
    return sorted(kept)


def _take(values: Sequence[T], rows: Sequence[int]) -> list[T]:
    return [values[row] for row in rows]
