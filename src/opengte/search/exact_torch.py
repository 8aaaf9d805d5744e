"""Exact nearest rows, faster: 16-bit block products, few survivors, one exact look at those.

The answer is that of ``exact.ExactIndex``, bit for bit. Products of a block of queries and rows are
made in bfloat16 where the processor multiplies that natively (AMX or AVX512-BF16; a graphics card
too), else in float32. Almost all scores are then below the query's k-th best so far, so selection,
not the product, decides the time: groups of columns are reduced to their maximum first, and only
groups that reach the threshold are opened. The threshold leaves room for twice the largest error
that rounding can have made (Cauchy-Schwarz on the rounding residues), so no true hit is ever lost;
what survives is scored in float64 one pair at a time.

Axes: N rows, D dimensions, Q queries, K hits, W groups of J columns, C survivors kept a query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from opengte.search.exact import ExactIndex, best_of_each, pair_scores

Precision = Literal["auto", "bfloat16", "float32"]
PairScores = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""(query numbers, row numbers) -> exact scores."""

_ROWS = 4096
_GROUPS = 64
_QUERIES = 1024
# Queries whose survivors are held at once: half a gigabyte with all temporaries.
_CHUNK = 4096
_RESIDUE_ROWS = 512  # few enough to stay in the cache
_SMALL = 16_384  # rows below which the plain index is as fast


class TorchExactIndex:
    """All rows are compared with every query; same answers as ``ExactIndex``.

    Args:
        vectors: (N, D) of float32 or float16, perhaps memory-mapped, or a list of such shards.
        precision: of the block products; ``auto`` takes bfloat16 where it is native.
        device: where products are made.
    """

    def __init__(
        self,
        vectors: NDArray[np.floating] | Sequence[NDArray[np.floating]],
        *,
        precision: Precision = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        self._exact = ExactIndex(vectors)
        self._device = torch.device(device)
        native = has_native_bfloat16(self._device)
        half = precision == "bfloat16" or (precision == "auto" and native)
        self._dtype = torch.bfloat16 if half else torch.float32
        self._row_bounds: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self._exact)

    @property
    def dimensions(self) -> int:
        """D."""
        return self._exact.dimensions

    @property
    def precision(self) -> str:
        """What the block products are made in."""
        return str(self._dtype).removeprefix("torch.")

    def search(
        self, vectors: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows of the best k, both (Q, K), as ``ExactIndex.search`` gives them.

        Raises:
            SearchIndexError: queries of another width than the rows; values that are not finite.
            ConfigError: k is below 1.
        """
        if len(self) < max(_SMALL, 4 * k):
            return self._exact.search(vectors, k)
        queries = self._exact.checked(vectors, k)
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        for start in range(0, len(queries), _CHUNK):
            part = slice(start, start + _CHUNK)
            scores[part], rows[part] = self._search_chunk(queries[part], k)
        return scores, rows

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of ``rows``, (len(rows), D), in their order."""
        return self._exact.take(rows)

    def _search_chunk(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        exact = torch.from_numpy(np.require(queries, requirements="W"))
        rounded = exact.to(self._dtype)
        survivors = Survivors(self._error(exact, rounded), k)
        blocks = rounded.to(self._device).split(_QUERIES)
        # One buffer for all products: a fresh one each time costs as much as the product itself.
        room = torch.empty(len(blocks[0]), _ROWS, dtype=self._dtype, device=self._device)
        for start, block in self._exact.blocks(_ROWS):
            columns = self._as_columns(block)
            for number, part in enumerate(blocks):
                products = torch.mm(part, columns, out=room[: len(part)])
                survivors.offer(products, number * _QUERIES, start, len(block))
            survivors.prune(lambda owners, rows: pair_scores(queries, self._exact, owners, rows))
        return self._best(queries, survivors, k)

    def _best(
        self, queries: NDArray[np.float32], survivors: Survivors, k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        owners, rows = survivors.flat()
        scores = pair_scores(queries, self._exact, owners, rows)
        return best_of_each(owners, scores, rows, len(queries), k)

    def _as_columns(self, block: NDArray[np.float32]) -> Float[Tensor, "D rows"]:
        """A block in the precision of the products, filled up to ``_ROWS`` with zero rows."""
        rounded = torch.zeros(_ROWS, self.dimensions, dtype=self._dtype)
        rounded[: len(block)] = torch.from_numpy(np.require(block, requirements="W"))
        return rounded.to(self._device).T

    def _error(self, exact: Tensor, rounded: Tensor) -> Float[Tensor, " Q"]:
        """The largest difference there can be between a product and the true score."""
        longest, residue = self._bounds_of_rows()
        lengths = exact.norm(dim=1)
        query_residue = (exact - rounded.float()).norm(dim=1)
        sums = torch.finfo(torch.float32).eps * self.dimensions
        result = torch.finfo(self._dtype).eps / 2  # the product is rounded once more
        inputs = query_residue * longest + (lengths + query_residue) * residue
        return inputs + lengths * longest * (sums + result) * 1.01

    def _bounds_of_rows(self) -> tuple[float, float]:
        """Length of the longest row, and of the largest rounding residue of one; read once."""
        if self._row_bounds is None:
            longest, residue = self._exact.longest_row(), 0.0
            if self._dtype != torch.float32:
                for _, block in self._exact.blocks(_RESIDUE_ROWS):
                    exact = torch.from_numpy(np.require(block, requirements="W"))
                    lost = exact.to(self._dtype).float().sub_(exact)
                    squares = torch.einsum("nd,nd->n", lost, lost)
                    residue = max(residue, float(squares.max()))
            self._row_bounds = (longest, residue**0.5)
        return self._row_bounds


class Survivors:
    """For each query the rows that may still be among its best k.

    Args:
        error: (Q,), the largest error of an offered score.
        k: hits wanted.
    """

    def __init__(self, error: Float[Tensor, " Q"], k: int) -> None:
        self._error = error
        self._k = k
        self._threshold = torch.full_like(error, -torch.inf)
        self._counts = torch.zeros(len(error), dtype=torch.int64)
        room = 4 * k + 256
        self._scores = torch.full((len(error), room), -torch.inf)
        self._rows = torch.zeros((len(error), room), dtype=torch.int64)

    def offer(
        self, products: Float[Tensor, "q columns"], first: int, start: int, num_rows: int
    ) -> None:
        """Keep what reaches the threshold.

        Args:
            products: scores of some queries and all columns of a block.
            first: number of the first of these queries.
            start: row number of the first column.
            num_rows: columns that are rows; the rest is filling.
        """
        num_queries, num_columns = products.shape
        if num_rows < num_columns:
            products[:, num_rows:] = -torch.inf
        part = slice(first, first + num_queries)
        is_first = bool(torch.isneginf(self._threshold[part]).any())
        groups = self._num_groups(num_columns, is_first)
        grouped = products.view(num_queries, num_columns // groups, groups)
        peaks = grouped.amax(dim=1)
        threshold = self._threshold[part]
        if is_first:
            threshold = torch.maximum(threshold, self._floor(peaks.float().cpu(), part))
            self._threshold[part] = threshold
        limit = _rounded_down(threshold, products.dtype).to(products.device)
        owners, found = torch.nonzero(peaks >= limit[:, None], as_tuple=True)
        members = grouped[owners, :, found]
        hits, places = torch.nonzero(members >= limit[owners, None], as_tuple=True)
        self._append(
            (owners[hits] + first).cpu(),
            members[hits, places].float().cpu(),
            (start + found[hits] + places * groups).cpu(),
        )

    def prune(self, score: PairScores) -> None:
        """Raise the thresholds of full lists and drop what falls below.

        Args:
            score: exact scores of (query numbers, row numbers), for lists that stay too long
                because very many rows score alike.
        """
        (full,) = torch.nonzero(self._counts > 2 * self._k, as_tuple=True)
        if not len(full):
            return
        self._drop_all(full)
        limit = max(8 * self._k, self._k + 4096)
        (crowded,) = torch.nonzero(self._counts > limit, as_tuple=True)
        if len(crowded):
            self._settle(crowded, score)

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Query and row numbers of all survivors."""
        (everything,) = torch.nonzero(self._counts > self._k, as_tuple=True)
        self._drop_all(everything)
        owners, places = torch.nonzero(~torch.isneginf(self._scores), as_tuple=True)
        return owners.numpy(), self._rows[owners, places].numpy()

    def _num_groups(self, num_columns: int, is_first: bool) -> int:
        """W: at first enough that the k-th largest of their maxima is a useful threshold."""
        groups = _GROUPS
        while is_first and groups < min(4 * self._k, num_columns):
            groups *= 2
        return groups

    def _floor(self, peaks: Float[Tensor, "q W"], part: slice) -> Float[Tensor, " q"]:
        """A first threshold: k group maxima are k real scores."""
        if peaks.shape[1] < self._k:
            return torch.full((len(peaks),), -torch.inf)
        kth = peaks.topk(self._k, dim=1, sorted=True).values[:, -1]
        return kth - 2 * self._error[part]

    def _append(
        self, owners: Int[Tensor, " n"], scores: Float[Tensor, " n"], rows: Int[Tensor, " n"]
    ) -> None:
        """Put entries, ordered by owner, behind those that their owners have."""
        if not len(owners):
            return
        added = torch.bincount(owners, minlength=len(self._counts))
        firsts = added.cumsum(0) - added
        places = self._counts[owners] + torch.arange(len(owners)) - firsts[owners]
        room = int(places.max()) + 1
        if room > self._scores.shape[1]:
            self._grow(max(room, self._scores.shape[1] * 2))
        self._scores[owners, places] = scores
        self._rows[owners, places] = rows
        self._counts += added

    def _grow(self, room: int) -> None:
        more = room - self._scores.shape[1]
        self._scores = torch.nn.functional.pad(self._scores, (0, more), value=-torch.inf)
        self._rows = torch.nn.functional.pad(self._rows, (0, more))

    def _drop_all(self, queries: Int[Tensor, " n"]) -> None:
        """Drop what falls below; a few long lists must not make all others as wide."""
        long = self._counts[queries] > 4 * self._k
        for part in (queries[~long], queries[long]):
            if len(part):
                self._drop(part)

    def _drop(self, queries: Int[Tensor, " n"]) -> None:
        width = int(self._counts[queries].max())
        scores, rows = self._scores[queries, :width], self._rows[queries, :width]
        kth = scores.topk(self._k, dim=1, sorted=True).values[:, -1]
        raised = kth - 2 * self._error[queries]
        self._threshold[queries] = torch.maximum(self._threshold[queries], raised)
        kept = scores >= self._threshold[queries, None]
        self._replace(queries, scores, rows, kept)

    def _settle(self, queries: Int[Tensor, " n"], score: PairScores) -> None:
        """Cut crowded lists to the k that are exactly the best so far."""
        for query in queries.tolist():
            count = int(self._counts[query])
            rows = self._rows[query, :count].numpy()
            owners = np.full(count, query, dtype=np.int64)
            exact = score(owners, rows)
            order = np.lexsort((rows, -exact))[: self._k]
            self._scores[query] = -torch.inf
            self._scores[query, : self._k] = torch.from_numpy(exact[order])
            self._rows[query, : self._k] = torch.from_numpy(rows[order])
            self._counts[query] = self._k

    def _replace(
        self,
        queries: Int[Tensor, " n"],
        scores: Float[Tensor, "n width"],
        rows: Int[Tensor, "n width"],
        kept: Tensor,
    ) -> None:
        """Give ``queries`` those of their entries that are kept, moved to the front."""
        owners, places = torch.nonzero(kept, as_tuple=True)
        self._scores[queries] = -torch.inf
        self._counts[queries] = 0
        self._append(queries[owners], scores[owners, places], rows[owners, places])


def has_native_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether bfloat16 products are faster than float32 ones there."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if torch.cpu._is_amx_tile_supported():
        return True
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in facts


def _rounded_down(values: Float[Tensor, " q"], dtype: torch.dtype) -> Float[Tensor, " q"]:
    """The largest numbers of ``dtype`` that are not above ``values``."""
    rounded = values.to(dtype)
    below = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    return torch.where(rounded.float() > values, below, rounded)
