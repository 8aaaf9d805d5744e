"""What every mining report shows of texts and scores: a few, short, evenly drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

NUM_EXAMPLES = 20
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CHARACTERS = 400


def shorten(text: str) -> str:
    """At most 400 characters of a text."""
    return text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 1] + "…"


def evenly(count: int) -> list[int]:
    """Up to twenty positions among ``count``, at even distances."""
    return np.unique(np.linspace(0, count - 1, min(NUM_EXAMPLES, count)).astype(int)).tolist()


def score_quantiles(scores: ArrayLike) -> dict[str, float]:
    """``{"0.05": ..., "0.50": ..., ...}``; empty where there are no scores."""
    values = np.asarray(scores, dtype=np.float64)
    if len(values) == 0:
        return {}
    found = np.quantile(values, QUANTILES)
    return {f"{q:.2f}": round(float(v), 6) for q, v in zip(QUANTILES, found, strict=True)}
