"""Two lists of numbers -> how well one orders or predicts the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opengte.errors import DataError


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation in [-1, 1]; tied values share the mean of their ranks.

    A constant list orders nothing: the answer is then 0.0, where scipy gives NaN.
    """
    pairs = RankedPairs(a, b)
    return pairs.spearman(np.arange(len(pairs)))


class RankedPairs:
    """N pairs of numbers whose Spearman is wanted on many resamples: sorted once, then counted.

    Args:
        a: N numbers.
        b: N numbers.
    """

    def __init__(self, a: ArrayLike, b: ArrayLike) -> None:
        first, second = _checked(a, b)
        self._places = [np.unique(values, return_inverse=True)[1] for values in (first, second)]

    def __len__(self) -> int:
        return len(self._places[0])

    def spearman(self, rows: NDArray[np.int64]) -> float:
        """Equal to ``spearman(a[rows], b[rows])``; rows may repeat."""
        return pearson(*(_mean_ranks(places[rows]) for places in self._places))


def _mean_ranks(places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ranks from 1 of values that are given as positions among the sorted distinct ones."""
    counts = np.bincount(places)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[places]
    return ranks


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Linear correlation in [-1, 1]; 0.0 where one list is constant."""
    first, second = _checked(a, b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    first, second = _centred(first), _centred(second)
    return float(np.clip(first @ second, -1.0, 1.0))


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean 0 and length 1; scaled first, so that tiny numbers do not underflow."""
    centred = values - values.mean()
    centred = centred / np.abs(centred).max()
    return centred / np.linalg.norm(centred)


def _checked(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise DataError(
            "a correlation needs two lists of one length, at least 2; "
            f"got shapes {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("a correlation needs finite numbers; a list holds NaN or infinity")
    return first, second
