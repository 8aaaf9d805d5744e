"""Texts -> which of them are near-duplicates of one another, and of another set's texts.

Near means: the Jaccard index of the two sets of shingles reaches a threshold. Candidates come
from MinHash bands (``minhash``); groups are connected components, so that a chain of
near-duplicates stays together. Axes: N texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from opengte.data.minhash import (
    NearDuplicateConfig,
    decided_pairs,
    estimated_pairs,
    signatures,
)
from opengte.data.shingles import Unit, normalise_texts


@dataclass(frozen=True, slots=True)
class Overlap:
    """A test text and the train text most like it; ``similarity`` is their Jaccard index."""

    train: int
    test: int
    similarity: float


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """How much of a test side stands in a train side.

    Attributes:
        num_train, num_test: texts compared.
        exact: test texts that equal a train text after ``normalise_text``.
        near: test texts with a near-duplicate on the train side; the exact ones are among them.
        found: one for each of the ``near`` test texts, the most similar first.
    """

    num_train: int
    num_test: int
    exact: int
    near: int
    found: tuple[Overlap, ...] = field(repr=False)


def near_duplicate_groups(
    texts: Sequence[str],
    *,
    threshold: float = 0.7,
    num_permutations: int = 128,
    unit: Unit = "characters",
    shingle: int = 5,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Label the connected components of near-duplicates.

    Args:
        texts: N texts. One without any letter or digit is like no other text.
        threshold: smallest Jaccard index of a near-duplicate, in (0, 1].
        num_permutations: length of a signature.
        unit: what a shingle is made of: ``words`` or ``characters``.
        shingle: items in a shingle.
        seed: of the hash functions.

    Returns:
        (N,) labels: texts joined by a chain of near-duplicates carry the same. Labels count from
        0 in the order of first occurrence, so that they depend on nothing but texts and options.
    """
    config = NearDuplicateConfig(
        threshold=threshold,
        num_permutations=num_permutations,
        unit=unit,
        shingle=shingle,
        seed=seed,
    )
    kinds = _Kinds.of(texts, config)
    return first_occurrence_labels(kinds.spread(_components(kinds, config)))


def connect(num_items: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected components of ``num_items`` items under edges; labels by first occurrence."""
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(num_items, num_items))
    _, labels = connected_components(graph, directed=False)
    return first_occurrence_labels(labels)


def first_occurrence_labels(labels: NDArray[np.generic]) -> NDArray[np.int64]:
    """Renumber labels from 0 in the order in which they first occur."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def overlap(
    train_texts: Sequence[str],
    test_texts: Sequence[str],
    *,
    config: NearDuplicateConfig | None = None,
) -> OverlapReport:
    """Find the test texts that stand in the train texts, word for word or nearly."""
    config = config or NearDuplicateConfig()
    kinds = _Kinds.of([*train_texts, *test_texts], config)
    num_train, num_test = len(train_texts), len(test_texts)
    found = _best_matches(kinds, num_train, config)
    seen = {text for text in normalise_texts(train_texts) if text}
    exact = sum(text in seen for text in normalise_texts(test_texts))
    ordered = tuple(sorted(found, key=lambda pair: (-pair.similarity, pair.test)))
    return OverlapReport(num_train, num_test, exact, len(ordered), ordered)


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Texts of equal signature are one kind: only kinds are compared, however many copies.

    Attributes:
        texts: one text of each kind.
        signature: (num_kinds, P).
        kind: (N,): kind of each text; -1 for a text without shingles.
    """

    texts: list[str]
    signature: NDArray[np.uint32]
    kind: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str], config: NearDuplicateConfig) -> _Kinds:
        signature, filled = signatures(texts, config)
        places = np.flatnonzero(filled)
        rows = np.ascontiguousarray(signature[places])
        whole = rows.view(np.dtype((np.void, rows.shape[1] * 4))).reshape(-1)
        _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
        kind = np.full(len(texts), -1, np.int64)
        kind[places] = inverse.reshape(-1)
        return cls([texts[i] for i in places[first].tolist()], rows[first], kind)

    @property
    def num_kinds(self) -> int:
        return len(self.signature)

    def spread(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of the kinds -> labels of the texts; each text without shingles is alone."""
        alone = self.kind < 0
        spread = np.append(labels, -1)[self.kind]
        spread[alone] = self.num_kinds + np.arange(int(alone.sum()))
        return spread


def _components(kinds: _Kinds, config: NearDuplicateConfig) -> NDArray[np.int64]:
    """Component of each kind. The surest pairs come first: what they join needs no exact check."""
    pairs = estimated_pairs(kinds.signature, config)
    pairs = pairs.where(np.argsort(-pairs.similarity, kind="stable"))
    edges = np.zeros((2, 0), np.int64)
    labels = np.arange(kinds.num_kinds)
    chunk = max(1_000, int((pairs.similarity > config.threshold + config.margin).sum()))
    while len(pairs):
        sure = decided_pairs(kinds.texts, pairs.where(np.arange(len(pairs)) < chunk), config)
        edges = np.concatenate([edges, [sure.left, sure.right]], axis=1)
        labels = connect(kinds.num_kinds, edges[0], edges[1])
        pairs = pairs.where(np.arange(len(pairs)) >= chunk)
        pairs = pairs.where(labels[pairs.left] != labels[pairs.right])
        chunk = 1_000
    return labels


def _best_matches(kinds: _Kinds, num_train: int, config: NearDuplicateConfig) -> list[Overlap]:
    """For each test text that has one, the train text most like it."""
    train, test = kinds.kind[:num_train], kinds.kind[num_train:]
    in_train = np.zeros(kinds.num_kinds + 1, np.bool_)
    in_train[train] = True
    in_train[-1] = False  # where texts without shingles point
    member = np.full(kinds.num_kinds, -1, np.int64)  # a train text of each kind
    filled = np.flatnonzero(train >= 0)[::-1]  # backwards: the first of a kind stays
    member[train[filled]] = filled
    best = {k: (1.0, k) for k in np.flatnonzero(in_train[:-1]).tolist()}
    pairs = estimated_pairs(kinds.signature, config, side=in_train[:-1].astype(np.int64))
    pairs = decided_pairs(kinds.texts, pairs, config)
    for left, right, similarity in zip(
        pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True
    ):
        own, other = (right, left) if in_train[left] else (left, right)
        best[own] = max(best.get(own, (0.0, -1)), (similarity, other))
    return [
        Overlap(int(member[best[k][1]]), i, best[k][0])
        for i, k in enumerate(test.tolist())
        if k in best
    ]
