"""Numbers that belong to groups of any size -> one number a group.

Axes: N numbers, G groups.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def grouped_logsumexp(
    logits: Float[Tensor, " N"],
    groups: Int64[Tensor, " N"],
    num_groups: int,
    *,
    excluded: Bool[Tensor, " N"] | None = None,
) -> Float[Tensor, " G"]:
    """Log of the sum of e^logit within each group; very small, but finite, for an empty one.

    Args:
        logits: the numbers.
        groups: the group of each, in [0, num_groups).
        num_groups: G.
        excluded: numbers that count in no group.
    """
    nothing = torch.finfo(logits.dtype).min / 4
    peaks = logits.new_full((num_groups,), nothing)
    if num_groups == 0:
        return peaks
    if excluded is not None:
        logits = logits.masked_fill(excluded, nothing)
    peaks = peaks.scatter_reduce(0, groups, logits.detach(), "amax")
    shares = torch.exp(logits - peaks[groups])
    if excluded is not None:
        shares = shares.masked_fill(excluded, 0.0)
    sums = torch.zeros_like(peaks).index_add(0, groups, shares)
    # An empty group keeps `nothing`: e^ of it adds 0 to any sum, and its gradient is 0.
    return peaks + torch.log(torch.where(sums > 0, sums, 1.0))
