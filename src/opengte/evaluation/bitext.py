"""Sentences and their translations -> how many find each other (MTEB's bitext protocol)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opengte.evaluation.measurement import Embedder, Measurement
from opengte.evaluation.tasks import BitextTask
from opengte.metrics.bootstrap import Interval, clustered_interval
from opengte.search.exact import ExactIndex


def measure_bitext(task: BitextTask, embedder: Embedder, *, seed: int = 0) -> Measurement:
    """Weighted F1 over the nearest target of each source sentence, averaged over languages.

    The interval draws languages: what is claimed is a mean over them.
    """
    subsets: dict[str, float] = {}
    totals: list[dict[str, float]] = []
    per_query: dict[str, float] = {}
    for name, (sources, targets) in task.subsets.items():
        index = ExactIndex(embedder.embed_unit(targets))
        _, rows = index.search(embedder.embed_unit(sources), 1)
        scores = _scores(rows[:, 0], len(sources))
        subsets[name] = scores["f1"]
        totals.append(scores)
        found = rows[:, 0] == np.arange(len(sources))
        per_query |= {f"{name}/{row}": float(value) for row, value in enumerate(found)}
    return Measurement(
        main_metric="f1",
        metrics={key: float(np.mean([scores[key] for scores in totals])) for key in totals[0]},
        interval=_interval(subsets, per_query, seed),
        num_items=len(per_query),
        per_query={"accuracy": per_query},
        subsets=subsets,
    )


def _interval(subsets: dict[str, float], per_query: dict[str, float], seed: int) -> Interval:
    if len(subsets) > 1:
        return clustered_interval(list(subsets.values()), seed=seed)
    return clustered_interval(list(per_query.values()), seed=seed)


def _scores(found: NDArray[np.int64], size: int) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    truth = np.arange(size)
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, found, average="weighted", zero_division=0
    )
    return {
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
        "accuracy": float(accuracy_score(truth, found)),
    }
