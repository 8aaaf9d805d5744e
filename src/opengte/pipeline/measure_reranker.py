"""A reranker and a first ranker -> how much better the best of a ranking is ordered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from opengte.contracts import Reranker, TextEncoder
from opengte.errors import ConfigError
from opengte.evaluation.load_task import load_task
from opengte.evaluation.tasks import RerankingTask, RetrievalTask
from opengte.metrics.ranking import evaluate_run
from opengte.pipeline.comparing import paired
from opengte.pipeline.files import find_data
from opengte.pipeline.measure import METRICS, HeldOutSet, PerQuery, measure, summarise
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import EvaluateStage
from opengte.records import Hit

METRIC = "mrr@10"


def measure_reranker(
    config: EvaluateStage, context: StageContext, reranker: Reranker
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results and details of an evaluation whose model is a reranker.

    Raises:
        ConfigError: no baseline ranks first, or a task has no candidates to be ordered.
    """
    if config.baseline is None:
        raise ConfigError(
            f"stages.{context.name}.baseline is missing: the model that ranks before "
            f"{config.model!r} reorders"
        )
    first = context.encoder(config.baseline)
    results: dict[str, Any] = {"model": config.model, "systems": {}, "slices": {}}
    results["differences"] = {}
    details: dict[str, Any] = {}
    for name, held_out in _sets(config, context).items():
        if isinstance(held_out, RerankingTask):
            before, after = rank_candidates(held_out, first, reranker)
            groups = {query: query for query in after[METRIC]}
        else:
            before, after = rank_twice(held_out, first, reranker, config.depth)
            groups = dict(held_out.groups)
        for label, found in (("first", before), ("reranked", after)):
            results["systems"][f"{name}/{label}"] = summarise(found, list(groups), groups)
        results["differences"][name] = paired(groups, after, before, METRIC)
        details[name] = {"per_query": {"first": before, "reranked": after}}
    return results, details


def _sets(config: EvaluateStage, context: StageContext) -> dict[str, HeldOutSet | RerankingTask]:
    sets: dict[str, HeldOutSet | RerankingTask] = {}
    if config.data is not None:
        folder = context.results[config.data].output / "test"
        sets[config.data] = HeldOutSet.read(folder, "test")
    for path in config.tasks:
        task = load_task(find_data(path))
        if isinstance(task, RetrievalTask):
            sets[task.name] = _held_out(task)
        elif isinstance(task, RerankingTask):
            sets[task.name] = task
        else:
            raise ConfigError(
                f"stages.{context.name}.tasks: {task.name!r} is a {task.type} task; a reranker is "
                "measured on retrieval and reranking"
            )
    return sets


def rank_candidates(
    task: RerankingTask, first: TextEncoder, reranker: Reranker
) -> tuple[PerQuery, PerQuery]:
    """Metrics by query of each query's own candidates, by cosine and by the reranker."""
    queries = first.encode(task.queries, kind="query").astype(np.float64)
    qrels: dict[str, dict[str, int]] = {}
    runs: tuple[dict[str, dict[str, float]], ...] = ({}, {})
    for number, (texts, labels) in enumerate(zip(task.candidates, task.labels, strict=True)):
        vectors = first.encode(texts, kind="document").astype(np.float64)
        lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
        both = (vectors @ queries[number] / lengths, reranker.score(task.queries[number], texts))
        ids = [f"d{place}" for place in range(len(texts))]
        qrels[str(number)] = dict(zip(ids, labels, strict=True))
        for run, scores in zip(runs, both, strict=True):
            run[str(number)] = dict(zip(ids, map(float, scores), strict=True))
    before, after = (evaluate_run(qrels, run, METRICS) for run in runs)
    return before, after


def rank_twice(
    held_out: HeldOutSet, first: TextEncoder, reranker: Reranker, depth: int
) -> tuple[PerQuery, PerQuery]:
    """Metrics by query of the first ranking's best ``depth``, and of the same reordered."""
    measured = measure(held_out, first, with_masked=False)
    texts = {document.id: document.full_text for document in held_out.documents}
    asked = {query.id: query.text for query in held_out.queries}
    before: dict[str, list[Hit]] = {
        query: hits[:depth] for query, hits in measured.rankings["dense"].items()
    }
    after = {query: reorder(asked[query], hits, texts, reranker) for query, hits in before.items()}
    return _score(held_out.qrels, before), _score(held_out.qrels, after)


def reorder(
    query: str, hits: Sequence[Hit], texts: Mapping[str, str], reranker: Reranker
) -> list[Hit]:
    """Hits in the reranker's order; equal scores keep the first ranking's."""
    scores = reranker.score(query, [texts[hit.id] for hit in hits])
    order = np.argsort(-scores, kind="stable")
    return [
        Hit(hits[i].id, float(scores[i]), rank) for rank, i in enumerate(order.tolist(), start=1)
    ]


def _score(
    qrels: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[Hit]]
) -> PerQuery:
    run = {query: {hit.id: float(-hit.rank) for hit in hits} for query, hits in rankings.items()}
    return evaluate_run(qrels, run, METRICS)


def _held_out(task: RetrievalTask) -> HeldOutSet:
    groups = {query.id: query.group or query.id for query in task.queries}
    return HeldOutSet(
        name=task.name,
        queries=tuple(task.queries),
        documents=tuple(task.corpus),
        qrels=task.qrels,
        groups=groups,
        slices={"all": list(groups)},
        masked={},
    )
