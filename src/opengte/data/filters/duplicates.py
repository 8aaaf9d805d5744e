"""Duplicates: which rows of a whole set repeat an earlier one, exactly or nearly.

Unlike the other filters these need all rows at once. What stays is the first of its kind, and
what goes says why. Axes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opengte.data.near_duplicates import near_duplicate_groups
from opengte.data.shingles import Unit, mix

Same = Literal["pair", "query", "positive"]


def exact_duplicates(
    query_hashes: NDArray[np.uint64], positive_hashes: NDArray[np.uint64], *, same: Same = "pair"
) -> NDArray[np.bool_]:
    """True for rows that repeat an earlier one, (N,).

    Args:
        query_hashes: as ``text_columns.text_hashes`` gives them, (N,).
        positive_hashes: likewise.
        same: what must repeat. GTE drops repeated ``pair`` alone.
    """
    return ~SeenKeys().add(duplicate_keys(query_hashes, positive_hashes, same=same))


def duplicate_keys(
    query_hashes: NDArray[np.uint64], positive_hashes: NDArray[np.uint64], *, same: Same = "pair"
) -> NDArray[np.uint64]:
    """One number a row, equal for rows that are duplicates, (N,)."""
    if same == "pair":
        return mix(query_hashes) ^ mix(mix(positive_hashes))
    return query_hashes if same == "query" else positive_hashes


class SeenKeys:
    """Remembers keys that come block by block, eight bytes each.

    They are kept in sorted runs, each more than twice as long as the next, so that a key is
    moved a logarithmic number of times however many there are.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Remember N keys; returns which of them come for the first time, (N,)."""
        distinct, first = np.unique(keys, return_index=True)
        fresh = np.ones(len(distinct), np.bool_)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, distinct), len(run) - 1)
            fresh &= run[places] != distinct
        run = distinct[fresh]
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
        new = np.zeros(len(keys), np.bool_)
        new[first[fresh]] = True
        return new


def near_duplicates(
    queries: Sequence[str],
    positives: Sequence[str],
    *,
    threshold: float = 0.7,
    num_permutations: int = 128,
    unit: Unit = "characters",
    shingle: int = 5,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """True for rows whose sides are both near-duplicates of an earlier row's, (N,).

    Both sides must be: many questions about one passage, or one title over several abstracts,
    are no duplicates.

    Args:
        queries: N texts.
        positives: N texts.
        threshold: see ``NearDuplicateConfig``, and so the others.
        num_permutations: length of a signature.
        unit: of shingles.
        shingle: items in one.
        seed: of the hashes.
    """
    sides = [
        near_duplicate_groups(
            texts,
            threshold=threshold,
            num_permutations=num_permutations,
            unit=unit,
            shingle=shingle,
            seed=seed,
        ).astype(np.uint64)
        for texts in (queries, positives)
    ]
    return exact_duplicates(sides[0], sides[1])
