"""Sentence pairs -> how well the cosine orders them (MTEB's STS protocol)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opengte.evaluation.measurement import Embedder, Measurement, pair_items, unit
from opengte.evaluation.tasks import StsTask
from opengte.metrics.bootstrap import statistic_interval
from opengte.metrics.correlation import RankedPairs, pearson, spearman


def measure_sts(task: StsTask, embedder: Embedder, *, seed: int = 0) -> Measurement:
    """Correlations of similarities with people's scores; Spearman of the cosine is the main one.

    Manhattan and Euclidean distances stand beside it, with their sign turned, as in MTEB.
    """
    first, second = embedder.embed(task.sentences1), embedder.embed(task.sentences2)
    gold = np.asarray(task.scores, dtype=np.float64)
    similarities = pair_similarities(first, second)
    metrics: dict[str, float] = {}
    for name in ("cosine", "manhattan", "euclidean"):
        metrics[f"{name}_spearman"] = spearman(similarities[name], gold)
        metrics[f"{name}_pearson"] = pearson(similarities[name], gold)
    cosine = similarities["cosine"]
    interval = statistic_interval(len(gold), RankedPairs(cosine, gold).spearman, seed=seed)
    return Measurement(
        main_metric="cosine_spearman",
        metrics=metrics,
        interval=interval,
        num_items=len(gold),
        per_query={"cosine": by_row(cosine), "gold": by_row(gold)},
        items=pair_items(task.sentences1, task.sentences2),
    )


def pair_similarities(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """For each of N pairs of vectors: cosine, dot product, and distances with the sign turned."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    return {
        "cosine": np.einsum("nd,nd->n", unit(a), unit(b)),
        "dot": np.einsum("nd,nd->n", a, b),
        "manhattan": -np.abs(a - b).sum(axis=1),
        "euclidean": -np.linalg.norm(a - b, axis=1),
    }


def by_row(values: NDArray[np.floating] | NDArray[np.int64]) -> dict[str, float]:
    """Values by row number, as result files name items."""
    return {str(row): float(value) for row, value in enumerate(values)}
