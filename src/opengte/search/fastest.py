"""Vectors -> the fastest exact index that this machine has; all give the same answers, bit for bit.

Torch is imported only where it is installed and the rows are many enough to be worth its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import VectorIndex
from opengte.search.exact import ExactIndex

WORTH_TORCH = 16_384
"""Rows below which ``TorchExactIndex`` hands the work to the plain index itself."""


class StoredVectors(VectorIndex, Protocol):
    """An index that also gives its rows back."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of ``rows``, (len(rows), D), in their order."""
        ...


def exact_index(vectors: NDArray[np.floating] | Sequence[NDArray[np.floating]]) -> StoredVectors:
    """An exact index over a matrix, or over shards that follow each other.

    Args:
        vectors: (N, D) of float32 or float16, perhaps memory-mapped, or a list of such.
    """
    shards = [vectors] if isinstance(vectors, np.ndarray) else list(vectors)
    if sum(map(len, shards)) < WORTH_TORCH or find_spec("torch") is None:
        return ExactIndex(shards)
    from opengte.search.exact_torch import TorchExactIndex

    return TorchExactIndex(shards)
