"""Vectors -> their exact nearest rows by inner product, in blocks of bounded memory.

The product of a block is compared with each query's current k-th best score; only what passes
is looked at again, and scored a second time in float64 one pair at a time. So a score does not
depend on the block or the neighbours it was computed with, equal vectors have equal scores, and
ties really go to the lower row. Axes: N rows, D dimensions, Q queries, K hits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError, SearchIndexError

_QUERIES = 256
_ROWS = 4096
_PAIRS = 1 << 12  # pairs scored again at once


class ExactIndex:
    """All rows are compared with every query.

    Args:
        vectors: (N, D) of float32 or float16, perhaps memory-mapped; or a list of such arrays
            (shards) that follow each other.

    Raises:
        SearchIndexError: the arrays are no matrices of one width.
    """

    def __init__(self, vectors: NDArray[np.floating] | Sequence[NDArray[np.floating]]) -> None:
        shards = [vectors] if isinstance(vectors, np.ndarray) else list(vectors)
        if any(shard.ndim != 2 for shard in shards) or len({s.shape[1] for s in shards}) > 1:
            shapes = [shard.shape for shard in shards]
            raise SearchIndexError(f"an index needs matrices of one width; got shapes {shapes}")
        self._shards = shards
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._longest: float | None = None
        self.dimensions = int(shards[0].shape[1]) if shards else 0

    def __len__(self) -> int:
        return int(self._starts[-1])

    def search(
        self, vectors: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and row numbers of the best k, both (Q, K), best first; ties by lower row.

        K is ``min(k, N)``. Scores are inner products: cosines where vectors have length 1.

        Raises:
            SearchIndexError: queries of another width than the rows; values that are not finite.
            ConfigError: k is below 1.
        """
        queries = self.checked(vectors, k)
        k = min(k, len(self))
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        for start in range(0, len(queries) if k else 0, _QUERIES):
            part = slice(start, start + _QUERIES)
            scores[part], rows[part] = self._search_block(queries[part], k)
        return scores, rows

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of ``rows``, (len(rows), D), in their order."""
        found = np.empty((len(rows), self.dimensions), dtype=np.float32)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(owners).tolist():
            here = owners == number
            found[here] = self._shards[number][rows[here] - self._starts[number]]
        return found

    def checked(self, vectors: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        """Queries as contiguous float32, refused where they cannot be searched with."""
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        if queries.ndim != 2 or (len(self) and queries.shape[1] != self.dimensions):
            raise SearchIndexError(
                f"the index holds vectors of {self.dimensions} dimensions; "
                f"got queries of shape {queries.shape}"
            )
        if not np.isfinite(queries).all():
            raise SearchIndexError("a query vector holds values that are not finite")
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        return queries

    def _search_block(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        slack = self._slack(queries)
        best_scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        best_rows = np.full((len(queries), k), np.iinfo(np.int64).max, dtype=np.int64)
        for start, block in self.blocks():
            products = queries @ block.T
            threshold = best_scores[:, -1]
            if np.isneginf(threshold).any():
                threshold = np.maximum(threshold, _kth_largest(products, k))
            owners, columns = np.nonzero(products >= (threshold - slack)[:, None])
            if len(owners):
                exact = _products(queries, block, owners, columns)
                best_scores, best_rows = _merge(
                    best_scores, best_rows, owners, exact, columns + start
                )
        return best_scores, best_rows

    def blocks(self, size: int | None = None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Row number and float32 rows of one block after another, at most ``size`` rows each."""
        size = size or _ROWS
        for offset, shard in zip(self._starts.tolist(), self._shards, strict=False):
            for start in range(0, len(shard), size):
                yield offset + start, np.asarray(shard[start : start + size], dtype=np.float32)

    def _slack(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """More than a float32 product can be wrong by, for each query."""
        lengths = np.linalg.norm(queries, axis=1)
        bound = float(np.finfo(np.float32).eps) * self.dimensions * self.longest_row()
        return (lengths * bound).astype(np.float32)

    def longest_row(self) -> float:
        """Length of the longest row; read once, and the one look at whether all are finite."""
        if self._longest is None:
            squares = [float(np.einsum("nd,nd->n", b, b).max(initial=0)) for _, b in self.blocks()]
            self._longest = float(np.sqrt(max(squares, default=0.0)))
            if not np.isfinite(squares).all():
                self._longest = None
                raise SearchIndexError(
                    "the index holds vectors that are not finite; embed its documents again"
                )
        return self._longest


def _kth_largest(products: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """(Q,): the k-th largest of each row, -inf where there are fewer."""
    columns = products.shape[1]
    if columns < k:
        return np.full(len(products), -np.inf, dtype=np.float32)
    return np.partition(products, columns - k, axis=1)[:, columns - k]


def pair_scores(
    queries: NDArray[np.float32],
    index: ExactIndex,
    owners: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Scores of single pairs of ``queries[owners]`` and ``rows``, alike wherever computed."""
    scores = np.empty(len(owners), dtype=np.float32)
    for start in range(0, len(owners), _PAIRS):
        part = slice(start, start + _PAIRS)
        found = index.take(rows[part])
        scores[part] = _products(queries, found, owners[part], np.arange(len(found)))
    return scores


def _products(
    queries: NDArray[np.float32],
    rows: NDArray[np.float32],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Inner products of ``queries[left]`` and ``rows[right]``, summed in float64."""
    scores = np.empty(len(left), dtype=np.float32)
    for start in range(0, len(left), _PAIRS):
        part = slice(start, start + _PAIRS)
        first = queries[left[part]].astype(np.float64)
        scores[part] = np.einsum("nd,nd->n", first, rows[right[part]].astype(np.float64))
    return scores


def best_of_each(
    owners: NDArray[np.int64],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    num_queries: int,
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best k of each owner's entries, (Q, k) each; ties by lower row; k entries at least."""
    order = np.lexsort((rows, -scores, owners))
    counts = np.bincount(owners, minlength=num_queries)
    starts = np.cumsum(counts) - counts
    kept = order[starts[:, None] + np.arange(k)]
    return scores[kept], rows[kept]


def _merge(
    best_scores: NDArray[np.float32],
    best_rows: NDArray[np.int64],
    owners: NDArray[np.int64],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best K of the held hits and the new ones, for each query."""
    num_queries, k = best_scores.shape
    return best_of_each(
        np.concatenate([np.repeat(np.arange(num_queries), k), owners]),
        np.concatenate([best_scores.ravel(), scores]),
        np.concatenate([best_rows.ravel(), rows]),
        num_queries,
        k,
    )
