"""Values per query -> a mean with its interval, by resampling what was really sampled.

Queries of one package, forum or document resemble each other; resampling single queries then
gives intervals that are too narrow. Here whole *clusters* are drawn (Davison & Hinkley 1997,
3.8), and where a system was trained with several seeds, seeds and clusters are drawn both
(crossed: each drawn cluster is seen with each drawn seed).

Axes: Q queries, C clusters, S seeds, R resamples. All intervals are percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opengte.errors import DataError

_BLOCK = 1 << 21  # gathered numbers held at once: 16 MiB of float64


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean between two bounds.

    Attributes:
        mean: the statistic on the values themselves.
        low, high: percentile bounds of its bootstrap distribution.
        scope: what was resampled: ``queries only`` says nothing about another training seed.
    """

    mean: float
    low: float
    high: float
    scope: str = "queries only"

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside the bounds."""
        return value < self.low or value > self.high


def clustered_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    num_samples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean over queries, drawing whole clusters with replacement.

    Args:
        values: (Q,), one number a query.
        clusters: Q labels; None, or one label for all, makes every query its own cluster.
        seed: of the resampling.
        num_samples: R.
        level: share of the bootstrap distribution between the bounds.

    Returns:
        The mean over queries (not over clusters) and its bounds.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return hierarchical_interval(
        numbers[None, :], clusters, seed=seed, num_samples=num_samples, level=level
    )


def hierarchical_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    num_samples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean over seeds and queries, drawing seeds and clusters with replacement.

    Args:
        values: (S, Q): row s holds the query values of the system trained with seed s.
        clusters: Q labels; None, or one label for all, makes every query its own cluster.
        seed: of the resampling, not of the systems.
        num_samples: R.
        level: share of the bootstrap distribution between the bounds.

    Returns:
        The mean; ``scope`` is ``queries and seeds`` from two seeds on.

    Raises:
        DataError: no values, a NaN among them, or a label list of another length.
    """
    numbers = np.asarray(values, dtype=np.float64)
    _check(numbers, clusters)
    sums, sizes = _totals(numbers, clusters)
    means = _resampled_means(sums, sizes, np.random.default_rng(seed), num_samples)
    low, high = _bounds(means, level)
    scope = "queries and seeds" if len(numbers) > 1 else "queries only"
    return Interval(float(numbers.mean()), low, high, scope)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    num_samples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Interval of mean(a - b), where a and b were measured on the same queries.

    Args:
        a: (Q,), or (S, Q) for S paired training seeds.
        b: of the same shape as ``a``.
        clusters: Q labels; None, or one label for all, makes every query its own cluster.
        seed: of the resampling.
        num_samples: R.
        level: share of the bootstrap distribution between the bounds.

    Raises:
        DataError: the shapes differ.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise DataError(
            "a paired difference needs the same queries on both sides; "
            f"got shapes {first.shape} and {second.shape}"
        )
    return hierarchical_interval(
        np.atleast_2d(first - second), clusters, seed=seed, num_samples=num_samples, level=level
    )


def paired_p_value(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    num_samples: int = 10_000,
) -> float:
    """Two-sided sign-flip test of mean(a - b) = 0, whole clusters flipped together.

    Under the null hypothesis the names of the two systems are exchangeable in each cluster.
    The observed signs count as one of the flips, so the answer is never 0.
    """
    difference = np.atleast_2d(
        np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    ).mean(axis=0, keepdims=True)
    _check(difference, clusters)
    sums, _ = _totals(difference, clusters)
    rng = np.random.default_rng(seed)
    extreme, block = 0, max(1, _BLOCK // sums.shape[1])
    for start in range(0, num_samples, block):
        shape = (min(block, num_samples - start), sums.shape[1])
        signs = rng.integers(0, 2, size=shape, dtype=np.int8) * 2 - 1
        extreme += int(np.sum(np.abs(signs @ sums[0]) >= abs(sums.sum()) - 1e-12))
    return (extreme + 1) / (num_samples + 1)


def statistic_interval(
    num_items: int,
    statistic: Callable[[NDArray[np.int64]], float],
    *,
    seed: int = 0,
    num_samples: int = 1_000,
    level: float = 0.95,
) -> Interval:
    """Interval of a statistic that is no mean (Spearman, average precision).

    Args:
        num_items: what is resampled, e.g. sentence pairs.
        statistic: given item numbers, with repetitions, the statistic on those items.
        seed: of the resampling.
        num_samples: R.
        level: share of the bootstrap distribution between the bounds.
    """
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(0, num_items, size=num_items)) for _ in range(num_samples)]
    low, high = _bounds(np.asarray(draws), level)
    return Interval(float(statistic(np.arange(num_items))), low, high)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being many (Holm 1979), in the given order.

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection
    below alpha, whatever the dependence between the tests.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(adjusted), 1.0)
    result = np.empty(len(order))
    result[order] = adjusted
    return [float(value) for value in result]


def _check(numbers: NDArray[np.float64], clusters: Sequence[Hashable] | None) -> None:
    if numbers.ndim != 2 or numbers.size == 0:
        raise DataError(f"an interval needs at least one value; got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise DataError("an interval needs finite values; the list holds NaN or infinity")
    if clusters is not None and len(clusters) != numbers.shape[1]:
        raise DataError(
            f"one cluster label a query is needed; got {len(clusters)} labels "
            f"for {numbers.shape[1]} queries"
        )


def _totals(
    numbers: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums (S, C) and sizes (C,) of the clusters.

    Drawing from a single cluster would always give the same mean, an interval of no width that
    looks like certainty; then queries are drawn.
    """
    if clusters is None or len(set(clusters)) == 1:
        return numbers, np.ones(numbers.shape[1])
    positions: dict[Hashable, int] = {}
    member = np.array([positions.setdefault(name, len(positions)) for name in clusters])
    sizes = np.bincount(member, minlength=len(positions)).astype(np.float64)
    sums = np.zeros((len(numbers), len(positions)))
    for row, total in zip(numbers, sums, strict=True):
        np.add.at(total, member, row)
    return sums, sizes


def _resampled_means(
    sums: NDArray[np.float64],
    sizes: NDArray[np.float64],
    rng: np.random.Generator,
    num_samples: int,
) -> NDArray[np.float64]:
    """(R,) means of resampled seeds and clusters, in blocks of bounded size."""
    num_seeds, num_clusters = sums.shape
    block = max(1, _BLOCK // num_clusters)
    means = []
    for start in range(0, num_samples, block):
        count = min(block, num_samples - start)
        drawn = rng.integers(0, num_clusters, size=(count, num_clusters))
        totals = np.stack([row[drawn].sum(axis=1) for row in sums], axis=1)  # (count, S)
        if num_seeds > 1:
            chosen = rng.integers(0, num_seeds, size=(count, num_seeds))
            totals = np.take_along_axis(totals, chosen, axis=1)
        means.append(totals.mean(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def _bounds(samples: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(samples, [tail, 1.0 - tail])
    return float(low), float(high)
