"""Queries with instructions -> whether the ranking follows the instruction.

p-MRR is FollowIR's measure (Weller et al. 2024, arXiv:2403.15246, 4.2): the instruction of a
query is changed so that some documents stop being relevant; p-MRR says in [-1, 1] how far these
fall. It is 1 when all fall to the bottom, 0 when nothing moves, negative when they rise. Where
instructions only vary, robustness@10 is the worst nDCG@10 of each query's variants (InstructIR).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from opengte.evaluation.measurement import Embedder, Measurement
from opengte.evaluation.retrieval import CorpusSearch, Rankings, RetrievalConfig, score_rankings
from opengte.evaluation.tasks import InstructionTask
from opengte.metrics.bootstrap import clustered_interval
from opengte.metrics.ranking import evaluate_run, mean_of, rank_documents


def measure_instruction_following(
    task: InstructionTask,
    embedder: Embedder | None,
    retrievers: Sequence[str],
    config: RetrievalConfig,
    *,
    seed: int = 0,
) -> dict[str, Measurement]:
    """``p-mrr`` where instructions change, else ``robustness@10``, beside retrieval's figures."""
    search = CorpusSearch(task, embedder, config)
    search.check(retrievers)
    return {name: _measure(task, search.rank(name), config, seed) for name in retrievers}


def p_mrr(
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
    changed: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """For each query the mean over its changed documents of how far they fall.

    Args:
        before: run with the original instructions: query id to {document id: score}.
        after: run with the changed ones.
        changed: query id to the documents that became irrelevant.
    """
    values = {}
    for query, documents in changed.items():
        if not documents or query not in before or query not in after:
            continue
        old, new = _ranks(before[query]), _ranks(after[query])
        values[query] = float(
            np.mean([_fall(old.get(d, len(old) + 1), new.get(d, len(new) + 1)) for d in documents])
        )
    return values


def _measure(
    task: InstructionTask, rankings: Rankings, config: RetrievalConfig, seed: int
) -> Measurement:
    measured = score_rankings(task, rankings, config)
    run = {query: {hit.id: hit.score for hit in hits} for query, hits in rankings.items()}
    if not task.changed:
        values = _worst_of_variants(measured.per_query["ndcg@10"])
        return _with(measured, "robustness@10", values, seed)
    sides: dict[str, dict[str, dict[str, float]]] = {"og": {}, "changed": {}}
    metrics = dict(measured.metrics)
    for side, part in sides.items():
        ending = f"-{side}"
        part |= {q.removesuffix(ending): hits for q, hits in run.items() if q.endswith(ending)}
        qrels = {
            query.removesuffix(ending): grades
            for query, grades in task.qrels.items()
            if query.endswith(ending)
        }
        for name, values in evaluate_run(qrels, part, ("map", "ndcg@5", "ndcg@10")).items():
            metrics[f"{side}_{name}"] = mean_of(values)
    measured = replace(measured, metrics=metrics)
    return _with(measured, "p-mrr", p_mrr(sides["og"], sides["changed"], task.changed), seed)


def _with(measured: Measurement, name: str, values: dict[str, float], seed: int) -> Measurement:
    """The measurement with another main metric."""
    return replace(
        measured,
        main_metric=name,
        metrics={name: mean_of(values), **measured.metrics},
        per_query={name: values, **measured.per_query},
        interval=clustered_interval(list(values.values()), seed=seed),
        num_items=len(values),
    )


def _worst_of_variants(values: Mapping[str, float]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for query, value in values.items():
        name = query.split("_")[0]  # InstructIR names variants QUERY_VARIANT
        worst[name] = min(value, worst.get(name, value))
    return worst


def _ranks(scores: Mapping[str, float]) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(rank_documents(scores), start=1)}


def _fall(old: int, new: int) -> float:
    """FollowIR, eq. 1: relative change of the reciprocal rank, positive for a fall."""
    return new / old - 1.0 if old >= new else 1.0 - old / new
