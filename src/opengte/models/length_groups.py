"""Texts of a packed batch, grouped so that attention can run as plain batched matrix products.

Axes: N texts, T tokens, n texts of one group, L the longest of the group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from opengte.models.packing import PackedTokens

MAX_SCORES = 1 << 21
"""Attention scores of one group, over all heads: the products of a group stay in the cache."""
TOLERANCE = 8
"""Texts of a group differ in length by less than this, in tokens."""
GPU_MAX_SCORES, GPU_TOLERANCE = 1 << 28, 64
"""On a GPU padding costs less than one more kernel launch."""


@dataclass(frozen=True)
class LengthGroup:
    """Texts of about equal length.

    Attributes:
        num_texts: n.
        length: L.
        rows: where the n * L tokens stand in the packed batch: a slice when they are neighbours
            without gaps, else their indices; padding repeats the last token of its text.
        is_real: bool, (n, L): which are tokens and not padding; None when all are.
    """

    num_texts: int
    length: int
    rows: slice | Int[Tensor, " n*L"]
    is_real: Bool[Tensor, "n L"] | None

    def take(self, values: Tensor) -> Tensor:
        """(T, ...) -> (n, L, ...)."""
        return values[self.rows].unflatten(0, (self.num_texts, self.length))


@dataclass(frozen=True)
class LengthGroups:
    """A partition of the texts of a batch.

    Attributes:
        groups: the groups.
        restore: int64, (T,): where each token stands in the groups' rows, one group behind the
            other; None when that is the packed order already.
    """

    groups: tuple[LengthGroup, ...]
    restore: Int[Tensor, " T"] | None

    def put_back(self, parts: list[Tensor]) -> Tensor:
        """One (n * L, ...) tensor a group -> (T, ...) in packed order, without padding."""
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)
        return rows if self.restore is None else rows.index_select(0, self.restore)


@dataclass(frozen=True)
class TextLayout:
    """Where the texts of a packed batch begin and end, in the forms that attention asks for.

    Attributes:
        lengths: int64, (N,), on the host: tokens of each text.
        boundaries: int32, (N + 1,), on the device.
        num_heads: attention heads.
    """

    lengths: NDArray[np.int64]
    boundaries: Int[Tensor, " N+1"]
    num_heads: int

    @classmethod
    def of(cls, packed: PackedTokens, *, num_heads: int) -> TextLayout:
        """The layout of a packed batch."""
        return cls(packed.lengths, packed.boundaries, num_heads)

    @property
    def max_length(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())

    @cached_property
    def groups(self) -> LengthGroups:
        """Texts of about equal length, made once a batch for all layers."""
        device = self.boundaries.device
        if device.type == "cpu":
            return make_length_groups(self.lengths, num_heads=self.num_heads, device=device)
        return make_length_groups(
            self.lengths,
            num_heads=self.num_heads,
            device=device,
            tolerance=GPU_TOLERANCE,
            max_scores=GPU_MAX_SCORES,
        )


def make_length_groups(
    lengths: NDArray[np.int64],
    *,
    num_heads: int,
    device: torch.device,
    tolerance: int = TOLERANCE,
    max_scores: int = MAX_SCORES,
) -> LengthGroups:
    """Group the texts of a packed batch by length.

    Args:
        lengths: tokens of each text, in packed order.
        num_heads: attention heads, for ``max_scores``.
        device: where the indices shall live.
        tolerance: texts of a group differ by less than this many tokens.
        max_scores: n * num_heads * L * L stays below this (one text is always allowed).
    """
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    restore = np.empty(int(lengths.sum()), dtype=np.int64)
    groups: list[LengthGroup] = []
    offset = 0
    for members in _partition(lengths, num_heads, tolerance, max_scores):
        sizes = lengths[members]
        inside = np.arange(sizes.max())
        real = inside < sizes[:, None]
        rows = starts[members][:, None] + np.minimum(inside, sizes[:, None] - 1)
        restore[rows[real]] = offset + np.flatnonzero(real)
        groups.append(_group(rows, real, device))
        offset += rows.size
    if np.array_equal(restore, np.arange(offset)):
        return LengthGroups(tuple(groups), None)
    return LengthGroups(tuple(groups), torch.from_numpy(restore).to(device))


def _partition(
    lengths: NDArray[np.int64], num_heads: int, tolerance: int, max_scores: int
) -> Iterator[NDArray[np.int64]]:
    """Texts of about equal length, longest first; those of one group in packed order."""
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        longest = int(lengths[order[first]])
        limit = first + max(1, max_scores // (num_heads * longest * longest))
        last = first + 1
        while last < min(limit, len(order)) and longest - lengths[order[last]] < tolerance:
            last += 1
        yield np.sort(order[first:last])
        first = last


def _group(rows: NDArray[np.int64], real: NDArray[np.bool_], device: torch.device) -> LengthGroup:
    start = int(rows[0, 0])
    whole = bool(real.all())
    neighbours = whole and np.array_equal(rows.ravel(), np.arange(start, start + rows.size))
    return LengthGroup(
        num_texts=rows.shape[0],
        length=rows.shape[1],
        rows=slice(start, start + rows.size)
        if neighbours
        else torch.from_numpy(rows.ravel()).to(device),
        is_real=None if whole else torch.from_numpy(real).to(device),
    )
