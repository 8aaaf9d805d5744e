"""Labelled texts -> accuracy of a linear model on few examples (MTEB's protocol).

Ten experiments; each shuffles the training rows further with the same seed, takes the first 8
of each label, fits logistic regression (at most 100 iterations) and predicts the whole split.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.evaluation.measurement import KEPT_ITEMS, Embedder, Measurement, beginning
from opengte.evaluation.results import Item
from opengte.evaluation.sts import by_row
from opengte.evaluation.tasks import ClassificationTask
from opengte.metrics.bootstrap import hierarchical_interval


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """MTEB's settings.

    Attributes:
        num_experiments: draws of the examples; 10.
        samples_per_label: examples a label; 8 (some MTEB tasks take 16 or 32).
        max_iterations: of logistic regression; 100.
        seed: of the draws and the solver; 42.
    """

    num_experiments: int = 10
    samples_per_label: int = 8
    max_iterations: int = 100
    seed: int = 42


def measure_classification(
    task: ClassificationTask,
    embedder: Embedder,
    config: ClassificationConfig = ClassificationConfig(),
    *,
    seed: int = 0,
) -> Measurement:
    """Means over the experiments; accuracy is the main metric.

    The interval draws experiments and texts both.
    """
    draws = draw_examples(task.train_labels, config)
    used = sorted({row for draw in draws for row in draw})
    position = {row: number for number, row in enumerate(used)}
    train = embedder.embed([task.train_texts[row] for row in used])
    test = embedder.embed(task.texts)
    truth = np.asarray(task.labels)
    results, hits = [], []
    for draw in draws:
        labels = [task.train_labels[row] for row in draw]
        predicted = _predict(train[[position[row] for row in draw]], labels, test, config)
        results.append(_scores(truth, predicted))
        hits.append(predicted == truth)
    correct = np.asarray(hits, dtype=np.float64)
    return Measurement(
        main_metric="accuracy",
        metrics={name: float(np.mean([result[name] for result in results])) for name in results[0]},
        interval=hierarchical_interval(correct, seed=seed, num_samples=2_000),
        num_items=len(truth),
        per_query={"accuracy": by_row(correct.mean(axis=0))},
        items={
            str(row): Item(f"{beginning(text)} → {label}")
            for row, (text, label) in enumerate(
                zip(task.texts[:KEPT_ITEMS], task.labels[:KEPT_ITEMS], strict=True)
            )
        },
    )


def draw_examples(labels: Sequence[str], config: ClassificationConfig) -> list[list[int]]:
    """Row numbers of the examples of each experiment, exactly as MTEB draws them.

    The shuffles add up: experiment i shuffles the order that experiment i - 1 left, each time
    from the same seed.
    """
    order = list(range(len(labels)))
    draws = []
    for _ in range(config.num_experiments):
        np.random.RandomState(config.seed).shuffle(order)
        counts: Counter[str] = Counter()
        draw = []
        for row in order:
            if counts[labels[row]] < config.samples_per_label:
                counts[labels[row]] += 1
                draw.append(row)
        draws.append(draw)
    return draws


def _predict(
    train: NDArray[np.float32],
    labels: Sequence[str],
    test: NDArray[np.float32],
    config: ClassificationConfig,
) -> NDArray[Any]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=config.max_iterations, random_state=config.seed)
    with warnings.catch_warnings():
        # 100 iterations are the protocol, whether or not they suffice.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, np.asarray(labels))
    predicted: NDArray[Any] = model.predict(test)
    return predicted


def _scores(truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    scores = {"accuracy": float(accuracy_score(truth, predicted))}
    for average, suffix in (("macro", ""), ("weighted", "_weighted")):
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=0
        )
        scores[f"f1{suffix}"] = float(f1)
        scores[f"precision{suffix}"] = float(precision)
        scores[f"recall{suffix}"] = float(recall)
    return scores
