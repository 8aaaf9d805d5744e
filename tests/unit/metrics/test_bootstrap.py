from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import DataError
from opengte.metrics.bootstrap import (
    clustered_interval,
    hierarchical_interval,
    holm,
    paired_difference,
    paired_p_value,
    statistic_interval,
)


def test_interval_of_independent_values_has_the_normal_width():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400)
    interval = clustered_interval(values, num_samples=4000)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.06)


def test_clusters_that_repeat_themselves_widen_the_interval():
    """Ten copies of each value hold no more information than one: the width must not shrink."""
    values = np.random.default_rng(1).random(50)
    alone = clustered_interval(values, num_samples=4000)
    copies = np.repeat(values, 10)
    labels = [f"package-{number}" for number in np.repeat(np.arange(50), 10)]
    clustered = clustered_interval(copies, labels, num_samples=4000)
    naive = clustered_interval(copies, num_samples=4000)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.06)
    assert naive.high - naive.low < 0.5 * (clustered.high - clustered.low)


def test_equals_slow_loops_on_the_same_draws():
    rng = np.random.default_rng(5)
    values, labels = rng.random(30), rng.integers(0, 7, size=30)
    names = list(dict.fromkeys(labels.tolist()))
    draws = np.random.default_rng(3).integers(0, len(names), size=(200, len(names)))
    means = []
    for draw in draws:
        drawn = np.concatenate([values[labels == names[position]] for position in draw])
        means.append(drawn.mean())
    expected = np.quantile(means, [0.025, 0.975])
    interval = clustered_interval(values, labels.tolist(), seed=3, num_samples=200)
    np.testing.assert_allclose([interval.low, interval.high], expected, rtol=1e-12)


def test_blocks_do_not_change_what_a_million_numbers_give(monkeypatch):
    values = np.random.default_rng(2).random(500)
    whole = clustered_interval(values, num_samples=1000)
    monkeypatch.setattr("opengte.metrics.bootstrap._BLOCK", 500 * 37)
    assert clustered_interval(values, num_samples=1000) == whole


def test_seeds_that_differ_widen_the_interval_and_are_named():
    rng = np.random.default_rng(3)
    queries = rng.random(200)
    systems = np.stack([queries + shift for shift in (-0.2, 0.0, 0.2)])
    both = hierarchical_interval(systems, num_samples=4000)
    one = hierarchical_interval(systems[1:2], num_samples=4000)
    assert both.scope == "queries and seeds"
    assert one.scope == "queries only"
    assert both.high - both.low > 2 * (one.high - one.low)


def test_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(200):
        effects = np.repeat(rng.normal(0, 1, 40), 5)
        labels = np.repeat(np.arange(40), 5).tolist()
        interval = clustered_interval(effects + rng.normal(0, 0.3, 200), labels, num_samples=400)
        covered += not interval.excludes(0.0)
    assert 0.89 <= covered / 200 <= 0.985


def test_paired_difference_sees_what_single_intervals_hide():
    rng = np.random.default_rng(6)
    hard = rng.random(300)
    better = hard + 0.02 + rng.normal(0, 0.02, 300)
    interval = paired_difference(better, hard, num_samples=2000)
    assert interval.mean == pytest.approx((better - hard).mean())
    assert interval.excludes(0.0)
    assert not interval.excludes(0.02)


def test_paired_difference_needs_the_same_queries():
    with pytest.raises(DataError, match="the same queries on both sides"):
        paired_difference([1.0, 2.0], [1.0])


def test_sign_flip_p_value_is_small_for_a_difference_and_uniform_without_one():
    rng = np.random.default_rng(7)
    a = rng.normal(0, 1, 80)
    assert paired_p_value(a + 1.0, a, num_samples=1000) == pytest.approx(1 / 1001)
    values = [
        paired_p_value(rng.normal(0, 1, 40), rng.normal(0, 1, 40), num_samples=400)
        for _ in range(150)
    ]
    assert scipy.stats.kstest(values, "uniform").pvalue > 0.01


def test_equal_systems_never_differ():
    assert paired_p_value([0.5, 0.25], [0.5, 0.25], num_samples=100) == 1.0


def test_statistic_interval_resamples_items():
    values = np.random.default_rng(8).normal(0, 1, 300)
    interval = statistic_interval(300, lambda rows: float(np.median(values[rows])))
    assert interval.low < interval.mean == np.median(values) < interval.high


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_its_definition(p_values):
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    expected, running = [0.0] * len(p_values), 0.0
    for position, index in enumerate(order):
        running = max(running, (len(p_values) - position) * p_values[index])
        expected[index] = min(running, 1.0)
    assert holm(p_values) == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.integers(0, 5))
def test_bounds_enclose_every_resampled_mean_of_the_level(values, seed):
    interval = clustered_interval(values, seed=seed, num_samples=200, level=1.0)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


@pytest.mark.parametrize(
    ("values", "clusters", "text"),
    [
        ([], None, "at least one value"),
        ([1.0, float("nan")], None, "finite values"),
        ([1.0, 2.0], ["a"], "got 1 labels for 2 queries"),
    ],
)
def test_values_without_an_interval_are_refused(values, clusters, text):
    with pytest.raises(DataError, match=text):
        clustered_interval(values, clusters)


def test_a_single_cluster_gives_no_certainty():
    values = [0.0, 1.0, 0.5, 0.25, 1.0]
    assert clustered_interval(values, ["one"] * 5) == clustered_interval(values)
    assert clustered_interval(values, ["one"] * 5).low < clustered_interval(values).mean
