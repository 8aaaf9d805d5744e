"""Two lists of numbers -> how well one orders or predicts the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opengte.errors import DataError


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation in [-1, 1]; tied values share the mean of their ranks.

    A constant list orders nothing: the answer is then 0.0, where scipy gives NaN.
    """
    from scipy.stats import rankdata

    first, second = _checked(a, b)
    return pearson(rankdata(first), rankdata(second))


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
