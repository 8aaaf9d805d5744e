from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from opengte.errors import DataError
from opengte.metrics.clustering import (
    adjusted_mutual_information,
    adjusted_rand_index,
    cluster_accuracy,
    normalised_mutual_information,
    v_measure,
)
from opengte.metrics.correlation import RankedPairs, pearson, spearman

lists = st.lists(st.tuples(st.integers(-5, 5), st.floats(-1e6, 1e6)), min_size=3, max_size=40)


@given(rows=lists)
def test_agree_with_scipy_ties_included(rows):
    a, b = np.array(rows, dtype=float).T
    if np.ptp(a) == 0 or np.ptp(b) < 1e-6:
        return
    assert pearson(a, b) == pytest.approx(scipy.stats.pearsonr(a, b)[0], abs=1e-6)
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b)[0], abs=1e-12)


def test_constant_list_correlates_with_nothing():
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == 0.0
    assert pearson([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) == 0.0


def test_tiny_numbers_do_not_underflow():
    assert pearson([1e-300, 2e-300, 3e-300], [1.0, 2.0, 3.0]) == pytest.approx(1.0)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0]), ([1, 2], [1, 2, 3]), ([], [])])
def test_lists_that_cannot_be_compared_are_refused(a, b):
    with pytest.raises(DataError, match="two lists of one length, at least 2"):
        pearson(a, b)


def test_nan_is_refused():
    with pytest.raises(DataError, match="finite numbers"):
        spearman([1.0, float("nan")], [1.0, 2.0])


def test_renamed_clusters_are_the_same_partition():
    labels = ["x", "x", "y", "y", "z", "z"]
    clusters = [2, 2, 0, 0, 1, 1]
    for measure in (
        v_measure,
        adjusted_mutual_information,
        normalised_mutual_information,
        adjusted_rand_index,
        cluster_accuracy,
    ):
        assert measure(labels, clusters) == pytest.approx(1.0)


def test_cluster_accuracy_counts_the_best_one_to_one_naming():
    assert cluster_accuracy(["a", "a", "a", "b"], [0, 0, 1, 1]) == pytest.approx(0.75)
    assert v_measure(["a", "a", "b", "b"], [0, 1, 0, 1]) == pytest.approx(0.0, abs=1e-12)


@given(rows=lists, seed=st.integers(0, 99))
def test_ranked_pairs_equal_spearman_on_every_resample(rows, seed):
    a, b = np.array(rows, dtype=float).T
    drawn = np.random.default_rng(seed).integers(0, len(a), size=len(a))
    assert RankedPairs(a, b).spearman(drawn) == pytest.approx(spearman(a[drawn], b[drawn]))
