"""Descriptions and a pool of code -> MRR in the full pool and among a thousand candidates.

CodeSearchNet (Husain et al. 2019) ranks each code among 999 distractors; papers since also report
the whole pool (GraphCodeBERT, cpt-code). Both stand side by side here, so that one is never
mistaken for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from opengte.evaluation.measurement import Embedder, Measurement
from opengte.evaluation.retrieval import CorpusSearch, RetrievalConfig, score_rankings
from opengte.evaluation.tasks import CodeSearchTask


def measure_code_search(
    task: CodeSearchTask,
    embedder: Embedder | None,
    retrievers: Sequence[str],
    config: RetrievalConfig,
    *,
    seed: int = 0,
) -> dict[str, Measurement]:
    """``mrr`` over the full pool (the main one) and ``mrr_candidates``, beside retrieval's figures.

    Beyond ``config.depth`` (1,000) a code counts as not found.
    """
    config = replace(config, main_metric="mrr")
    search = CorpusSearch(task, embedder, config)
    search.check(retrievers)
    pools = candidate_pools(task)
    few = replace(config, depth=max(len(pool) for pool in pools.values()))
    return {
        name: _with_candidates(
            score_rankings(task, search.rank(name), config, seed=seed),
            score_rankings(task, search.rank(name, pools), few, seed=seed),
        )
        for name in retrievers
    }


def candidate_pools(task: CodeSearchTask) -> dict[str, set[str]]:
    """For each query its relevant codes and random others, ``num_candidates`` in all.

    A pool of fewer codes is taken whole.
    """
    names = [document.id for document in task.corpus]
    pools = {}
    for number, query in enumerate(task.queries):
        relevant = {name for name, grade in task.qrels[query.id].items() if grade > 0}
        rng = np.random.default_rng([task.seed, number])
        others = [names[row] for row in rng.permutation(len(names)) if names[row] not in relevant]
        pools[query.id] = relevant | set(others[: max(0, task.num_candidates - len(relevant))])
    return pools


def _with_candidates(full: Measurement, few: Measurement) -> Measurement:
    name = f"{few.main_metric}_candidates"
    return replace(
        full,
        metrics={**full.metrics, name: few.metrics[few.main_metric]},
        per_query={**full.per_query, name: few.per_query[few.main_metric]},
    )
