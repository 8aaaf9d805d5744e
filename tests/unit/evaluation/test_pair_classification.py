from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from opengte.evaluation.pair_classification import (
    ScoredPairs,
    average_precision,
    threshold_metrics,
)

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(label for _, label in rows) < len(rows)
)


@given(rows=pairs, seed=st.integers(0, 99))
def test_average_precision_equals_scikit_learn_with_ties_on_every_resample(rows, seed):
    scores, labels = np.array(rows).T
    scores = scores / 7
    assert average_precision(scores, labels) == pytest.approx(
        average_precision_score(labels, scores)
    )
    drawn = np.random.default_rng(seed).integers(0, len(labels), size=len(labels))
    expected = 0.0
    if labels[drawn].any():
        expected = average_precision_score(labels[drawn], scores[drawn])
    assert ScoredPairs(scores, labels).average_precision(drawn) == pytest.approx(expected)


def best_by_trying(scores, labels):
    """Every threshold between two different neighbouring scores, one after the other."""
    accuracy, best = 0.0, (0.0, 0.0, 0.0)
    for cut in sorted(set(scores))[1:]:
        predicted = scores >= cut
        accuracy = max(accuracy, float(np.mean(predicted == labels)))
        hits = float(np.sum(predicted & (labels == 1)))
        precision, recall = hits / predicted.sum(), hits / labels.sum()
        if hits and 2 * precision * recall / (precision + recall) > best[0] + 1e-12:
            best = (2 * precision * recall / (precision + recall), precision, recall)
    return accuracy, best[0]


@given(rows=pairs)
def test_thresholds_equal_trying_them_all(rows):
    scores, labels = np.array(rows).T
    found = threshold_metrics(scores / 7, labels)
    accuracy, f1 = best_by_trying(scores / 7, labels)
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["f1"] == pytest.approx(f1)
    if f1:
        mean = 2 * found["precision"] * found["recall"] / (found["precision"] + found["recall"])
        assert mean == pytest.approx(f1)
