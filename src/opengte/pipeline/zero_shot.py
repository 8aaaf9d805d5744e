"""Labelled texts and nothing to train on -> the class whose name lies nearest.

GTE (Li et al. 2023, table 4) classifies SST-2 so: the label's text is embedded like any other.
"""

from __future__ import annotations

import numpy as np

from opengte.contracts import TextEncoder
from opengte.evaluation.results import TaskResult
from opengte.evaluation.tasks import ClassificationTask
from opengte.metrics.bootstrap import clustered_interval


def measure_zero_shot(task: ClassificationTask, encoder: TextEncoder) -> TaskResult:
    """Accuracy of the nearest label's text, underscores read as spaces."""
    labels = sorted(set(task.labels))
    texts = encoder.encode(task.texts).astype(np.float64)
    names = encoder.encode([label.replace("_", " ") for label in labels]).astype(np.float64)
    names /= np.maximum(np.linalg.norm(names, axis=1, keepdims=True), 1e-12)
    nearest = np.argmax(texts @ names.T, axis=1)
    hits = np.asarray([labels[n] == truth for n, truth in zip(nearest, task.labels, strict=True)])
    interval = clustered_interval(hits.astype(np.float64))
    accuracy = float(hits.mean())
    return TaskResult(
        name=f"{task.name}-zero-shot",
        type="zero_shot_classification",
        split=task.split,
        main_metric="accuracy",
        main_score=accuracy,
        ci95=(interval.low, interval.high),
        metrics={"accuracy": accuracy},
        per_query={"accuracy": {str(n): float(hit) for n, hit in enumerate(hits)}},
        num_items=len(hits),
    )
