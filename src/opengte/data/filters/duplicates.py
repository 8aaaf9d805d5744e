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
    if same == "pair":
        key = mix(query_hashes) ^ mix(mix(positive_hashes))
    else:
        key = query_hashes if same == "query" else positive_hashes
    _, first = np.unique(key, return_index=True)
    repeated = np.ones(len(key), np.bool_)
    repeated[first] = False
    return repeated


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
