"""Texts -> MinHash signatures -> pairs of texts with a large Jaccard index.

Signatures come from ``rensa``. They are cut into bands; texts that agree on a band are
candidates (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3). A candidate's
estimate is the share of equal signature values; where it lies within four standard errors of the
threshold, the exact Jaccard index of the two sets of shingles decides.
Axes: M texts, P permutations, K pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import rensa
from numpy.typing import NDArray

from opengte.data.shingles import Unit, mix, shingle
from opengte.errors import ConfigError

_MISSED = 1e-3  # how often, at most, a pair exactly at the threshold is no candidate
_TEXTS = 20_000  # texts shingled at a time, and pairs compared exactly
_BLOCK = 100_000  # pairs judged at a time: bounds scratch memory
_LARGE = 2_000  # texts agreeing on one band, beyond which not all pairs are tried ...
_NEIGHBOURS = 64  # ... but each with so many that stand next to it


@dataclass(frozen=True, kw_only=True)
class NearDuplicateConfig:
    """What counts as a near-duplicate.

    Attributes:
        threshold: smallest Jaccard index of a near-duplicate, in (0, 1].
        num_permutations: length of a signature; the standard error of the estimate is at most
            ``0.5 / sqrt(num_permutations)``.
        unit: what a shingle is made of: ``words`` or ``characters``.
        shingle: items in a shingle.
        seed: of the hash functions.
    """

    threshold: float = 0.7
    num_permutations: int = 128
    unit: Unit = "characters"
    shingle: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold must lie in (0, 1], got {self.threshold}")
        if self.num_permutations < 16:
            raise ConfigError(f"num_permutations must be >= 16, got {self.num_permutations}")
        if self.shingle < 1:
            raise ConfigError(f"shingle must be >= 1, got {self.shingle}")

    @property
    def rows_per_band(self) -> int:
        """The most values a band may hold such that 999 of 1000 pairs at the threshold meet."""
        for rows in range(self.num_permutations // 2, 1, -1):
            if (1 - self.threshold**rows) ** (self.num_permutations // rows) <= _MISSED:
                return rows
        return 1

    @property
    def margin(self) -> float:
        """Four standard errors of the estimate at the threshold."""
        variance = self.threshold * (1 - self.threshold) / self.num_permutations
        return 4 * math.sqrt(variance)


@dataclass(frozen=True, slots=True)
class Pairs:
    """K pairs of texts, ``left[k] < right[k]``, each pair once, and how similar they are."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.left)

    def where(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        """The pairs of a mask, or of positions in their order."""
        return Pairs(self.left[keep], self.right[keep], self.similarity[keep])


def signatures(
    texts: Sequence[str], config: NearDuplicateConfig
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """MinHash signatures, (M, P), and which texts have any shingle, (M,)."""
    blocks = [np.zeros((0, config.num_permutations), np.uint32)]
    filled = [np.zeros(0, np.bool_)]
    for begin in range(0, len(texts), _TEXTS):
        block = texts[begin : begin + _TEXTS]
        shingles = shingle(block, unit=config.unit, size=config.shingle)
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            shingles.hashes,
            shingles.offsets.astype(np.uint64),
            config.num_permutations,
            config.seed,
        )
        blocks.append(np.array(matrix.to_rows(), np.uint32).reshape(len(block), -1))
        filled.append(np.diff(shingles.offsets) > 0)
    return np.concatenate(blocks), np.concatenate(filled)


def estimated_pairs(
    signature: NDArray[np.uint32],
    config: NearDuplicateConfig,
    *,
    side: NDArray[np.int64] | None = None,
) -> Pairs:
    """Candidate pairs whose estimate reaches the threshold less its margin.

    Args:
        signature: (M, P).
        config: threshold and bands.
        side: (M,); where given, only pairs of different sides are looked at.
    """
    keys = _band_keys(signature, config.rows_per_band)
    found = [np.zeros((0, 3))]
    for band, left, right in _candidates(keys):
        fresh = ~(keys[left, :band] == keys[right, :band]).any(1)  # not met on a band before
        if side is not None:
            fresh &= side[left] != side[right]
        left, right = left[fresh], right[fresh]
        estimate = (signature[left] == signature[right]).mean(1, dtype=np.float64)
        keep = estimate >= config.threshold - config.margin
        found.append(np.stack([left[keep], right[keep], estimate[keep]], 1))
    pairs = np.concatenate(found)
    return Pairs(pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), pairs[:, 2])


def decided_pairs(texts: Sequence[str], pairs: Pairs, config: NearDuplicateConfig) -> Pairs:
    """The pairs at or above the threshold; those near it carry their exact similarity."""
    similarity = pairs.similarity.copy()
    doubtful = np.flatnonzero(np.abs(similarity - config.threshold) <= config.margin)
    for begin in range(0, len(doubtful), _TEXTS):
        chunk = doubtful[begin : begin + _TEXTS]
        similarity[chunk] = _exact(texts, pairs.where(chunk), config)
    return Pairs(pairs.left, pairs.right, similarity).where(similarity >= config.threshold)


def _exact(texts: Sequence[str], pairs: Pairs, config: NearDuplicateConfig) -> NDArray[np.float64]:
    """The Jaccard index of each pair."""
    needed, places = np.unique(np.stack([pairs.left, pairs.right]), return_inverse=True)
    shingles = shingle([texts[i] for i in needed.tolist()], unit=config.unit, size=config.shingle)
    sets = [shingles.of(i) for i in range(len(needed))]
    left, right = places.reshape(2, -1).tolist()
    return np.array([jaccard(sets[a], sets[b]) for a, b in zip(left, right, strict=True)])


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Size of the intersection over size of the union of two arrays of distinct values."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def _band_keys(signature: NDArray[np.uint32], rows: int) -> NDArray[np.uint64]:
    """One hash a band, (M, number of bands)."""
    num_bands = signature.shape[1] // rows
    keys = np.zeros((len(signature), num_bands), np.uint64)
    for row in range(rows):
        keys = mix(keys ^ signature[:, row : num_bands * rows : rows])
    return keys


def _candidates(
    keys: NDArray[np.uint64],
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Band by band, the pairs ``left < right`` that agree on it; at most a block at a time."""
    for band in range(keys.shape[1]):
        key = keys[:, band]
        order = np.lexsort((keys[:, (band + 1) % keys.shape[1]], key))
        edges = np.flatnonzero(key[order][1:] != key[order][:-1]) + 1
        size = np.diff(np.concatenate([[0], edges, [len(order)]]))
        # For each place: how many texts of the same run still follow.
        follow = np.repeat(np.cumsum(size), size) - np.arange(len(order)) - 1
        large = np.repeat(size > _LARGE, size)
        follow[large] = np.minimum(follow[large], _NEIGHBOURS)
        for left, right in _pairs_ahead(order, follow):
            yield band, left, right


def _pairs_ahead(
    order: NDArray[np.int64], follow: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pair each place with the ``follow`` places after it, one distance at a time."""
    places = np.flatnonzero(follow)
    distance = 1
    while len(places):
        for begin in range(0, len(places), _BLOCK):
            here = places[begin : begin + _BLOCK]
            a, b = order[here], order[here + distance]
            yield np.minimum(a, b), np.maximum(a, b)
        distance += 1
        places = places[follow[places] >= distance]
