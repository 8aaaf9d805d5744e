"""Sentence pairs -> how well one threshold tells matches from others (MTEB's protocol)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opengte.errors import DataError
from opengte.evaluation.measurement import Embedder, Measurement, pair_items
from opengte.evaluation.sts import by_row, pair_similarities
from opengte.evaluation.tasks import PairClassificationTask
from opengte.metrics.bootstrap import statistic_interval


def measure_pair_classification(
    task: PairClassificationTask, embedder: Embedder, *, seed: int = 0
) -> Measurement:
    """Average precision, and the best accuracy and F1 over all thresholds.

    Each is given for cosine, dot product and two distances, with the largest as ``max_...``;
    ``max_ap`` is the main one, as in MTEB. The interval is that of the similarity that won.

    Raises:
        DataError: all labels are equal.
    """
    labels = np.asarray(task.labels, dtype=np.int64)
    if len(np.unique(labels)) < 2:
        raise DataError(f"{task.name}: all pairs have one label; there is nothing to tell apart")
    first, second = embedder.embed(task.sentences1), embedder.embed(task.sentences2)
    similarities = pair_similarities(first, second)
    metrics: dict[str, float] = {}
    for name, scores in similarities.items():
        metrics |= {
            f"{name}_{key}": value for key, value in threshold_metrics(scores, labels).items()
        }
    for key in ("accuracy", "f1", "precision", "recall", "ap"):
        metrics[f"max_{key}"] = max(metrics[f"{name}_{key}"] for name in similarities)
    winner = max(similarities, key=lambda name: metrics[f"{name}_ap"])
    scores = similarities[winner]
    return Measurement(
        main_metric="max_ap",
        metrics=metrics,
        interval=statistic_interval(
            len(labels),
            ScoredPairs(scores, labels).average_precision,
            seed=seed,
        ),
        num_items=len(labels),
        per_query={"cosine": by_row(similarities["cosine"]), "gold": by_row(labels)},
        items=pair_items(task.sentences1, task.sentences2),
    )


def threshold_metrics(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Best accuracy, best F1 with its precision and recall, and average precision.

    A threshold stands between two unequal neighbouring scores, so that tied pairs are never
    split and the order of the rows cannot leak into a figure.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, truth = scores[order], labels[order]
    cuts = np.flatnonzero(ordered[:-1] != ordered[1:])  # last row above each threshold
    found = np.cumsum(truth)[cuts]
    positives, total = int(labels.sum()), len(labels)
    above = cuts + 1
    correct = found + (total - positives) - (above - found)
    precision = found / above
    recall = found / positives
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    best = int(np.argmax(f1)) if len(cuts) else None
    return {
        "accuracy": float(correct.max(initial=0) / total),
        "f1": 0.0 if best is None else float(f1[best]),
        "precision": 0.0 if best is None or f1[best] == 0 else float(precision[best]),
        "recall": 0.0 if best is None or f1[best] == 0 else float(recall[best]),
        "ap": average_precision(scores, labels),
    }


def average_precision(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Area under the precision-recall steps, ties taken together (scikit-learn's definition)."""
    return ScoredPairs(scores, labels).average_precision(np.arange(len(labels)))


class ScoredPairs:
    """N scored pairs whose average precision is wanted on many resamples: sorted once.

    Args:
        scores: N similarities.
        labels: N times 0 or 1.
    """

    def __init__(self, scores: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        self._places = np.unique(-scores, return_inverse=True)[1]
        self._labels = labels

    def average_precision(self, rows: NDArray[np.int64]) -> float:
        """Equal to ``average_precision(scores[rows], labels[rows])``; rows may repeat."""
        places, labels = self._places[rows], self._labels[rows]
        positives = int(labels.sum())
        if positives == 0:
            return 0.0
        found = np.cumsum(np.bincount(places, weights=labels))
        above = np.cumsum(np.bincount(places))
        gained = np.diff(found, prepend=0.0)
        # Places that no row took gain nothing; the first of them may have nothing above it.
        return float(np.sum(gained / positives * found / np.maximum(above, 1)))
