"""Hashes of the texts of a batch -> the rows that may stay together in it.

Axes: B rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def keep_unlike(
    query_hashes: NDArray[np.uint64], positive_hashes: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Which rows to keep so that no text stands twice, on either side; earlier rows win."""
    kept = np.ones(len(query_hashes), np.bool_)
    doubtful = _repeated(np.stack([query_hashes, positive_hashes], 1))
    seen: set[int] = set()
    for row in np.flatnonzero(doubtful.any(1)).tolist():
        query, positive = int(query_hashes[row]), int(positive_hashes[row])
        kept[row] = query != positive and query not in seen and positive not in seen
        if kept[row]:
            seen.update((query, positive))
    return kept


def keep_unlike_across(
    query_hashes: NDArray[np.uint64], positive_hashes: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Which rows to keep so that no text is a query and a positive, and no pair stands twice.

    Texts that repeat on one side stay: labels say that they are the same.
    """
    kept = np.ones(len(query_hashes), np.bool_)
    doubtful = _repeated(np.stack([query_hashes, positive_hashes], 1))
    queries: set[int] = set()
    positives: set[int] = set()
    pairs: set[tuple[int, int]] = set()
    for row in np.flatnonzero(doubtful.any(1)).tolist():
        pair = int(query_hashes[row]), int(positive_hashes[row])
        kept[row] = not (
            pair[0] == pair[1] or pair in pairs or pair[0] in positives or pair[1] in queries
        )
        if kept[row]:
            queries.add(pair[0])
            positives.add(pair[1])
            pairs.add(pair)
    return kept


def _repeated(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """True where a value occurs anywhere else."""
    ordered = np.sort(values, axis=None)  # several times faster than argsort
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    repeated = np.zeros(values.shape, np.bool_)
    if len(twice):
        # Few values repeat. A table of their low bits leaves few to look up, and costs one
        # access each for the others, where a search would branch at random.
        possible = np.zeros(1 << 16, np.bool_)
        possible[twice & np.uint64(0xFFFF)] = True
        doubtful = possible[values & np.uint64(0xFFFF)]
        repeated[doubtful] = np.isin(values[doubtful], twice)
    return repeated
