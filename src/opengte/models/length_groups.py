"""Texts of a packed batch, grouped so that attention can run as plain batched matrix products.

Axes: N texts, T tokens, n texts of one group, L the longest of the group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

MAX_SCORES = 1 << 21
"""Attention scores of one group, over all heads: the products of a group stay in the cache."""
TOLERANCE = 8
"""Texts of a group differ in length by less than this, in tokens."""


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
    order = np.argsort(-lengths, kind="stable")
    groups: list[LengthGroup] = []
    restore = np.empty(int(lengths.sum()), dtype=np.int64)
    is_identity, offset, first = True, 0, 0
    while first < len(order):
        longest = int(lengths[order[first]])
        limit = first + max(1, max_scores // (num_heads * longest * longest))
        last = first + 1
        while last < min(limit, len(order)) and longest - lengths[order[last]] < tolerance:
            last += 1
        members = np.sort(order[first:last])
        inside = np.arange(longest)
        sizes = lengths[members]
        real = inside < sizes[:, None]
        rows = starts[members][:, None] + np.minimum(inside, sizes[:, None] - 1)
        places = offset + np.arange(rows.size).reshape(rows.shape)
        restore[rows[real]] = places[real]
        neighbours = bool(real.all()) and np.array_equal(
            rows.ravel(), np.arange(rows[0, 0], rows[0, 0] + rows.size)
        )
        is_identity = is_identity and neighbours and rows[0, 0] == offset
        groups.append(
            LengthGroup(
                num_texts=len(members),
                length=longest,
                rows=slice(int(rows[0, 0]), int(rows[0, 0]) + rows.size)
                if neighbours
                else torch.from_numpy(rows.ravel()).to(device),
                is_real=None if real.all() else torch.from_numpy(real).to(device),
            )
        )
        offset += rows.size
        first = last
    return LengthGroups(
        tuple(groups), None if is_identity else torch.from_numpy(restore).to(device)
    )
