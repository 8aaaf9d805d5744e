"""Token states of a packed batch -> one vector a text.

Axes: N texts, T tokens, C hidden size. Sums are taken in float32 whatever the states are held in.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from opengte.model_modules import PoolingMode
from opengte.models.packing import PackedTokens


def pool(
    states: Float[Tensor, "T C"], packed: PackedTokens, *, mode: PoolingMode
) -> Float[Tensor, "N C"]:
    """One vector a text, from those of its tokens that ``packed.pooling_mask`` names.

    Args:
        states: the backbone's last layer.
        packed: the batch they belong to.
        mode: ``mean``; ``cls``: the first token; ``last_token``; ``weighted_mean``: tokens weigh
            their position in the text, counted from 1 (SGPT, Muennighoff 2022); ``max``;
            ``mean_sqrt_length``: the sum over the square root of the number of tokens.

    Returns:
        float32.
    """
    if mode == "cls":
        return states[_edge_rows(packed, first=True)].float()
    if mode == "last_token":
        return states[_edge_rows(packed, first=False)].float()
    if mode == "max":
        hidden = states.float().masked_fill(~packed.pooling_mask[:, None], float("-inf"))
        owners = packed.text_of_token[:, None].expand_as(hidden)
        start = hidden.new_full((len(packed), hidden.shape[1]), float("-inf"))
        return start.scatter_reduce(0, owners, hidden, "amax")
    weights = packed.pooling_mask.float()
    if mode == "weighted_mean":
        weights = weights * (packed.positions + 1)
    totals = sum_by_text(states.float() * weights[:, None], packed)
    sizes = sum_by_text(weights[:, None], packed)
    return totals / (sizes.sqrt() if mode == "mean_sqrt_length" else sizes)


def sum_by_text(values: Float[Tensor, "T C"], packed: PackedTokens) -> Float[Tensor, "N C"]:
    """Sums of the rows of each text."""
    start = values.new_zeros((len(packed), values.shape[1]))
    return start.index_add(0, packed.text_of_token, values)


def _edge_rows(packed: PackedTokens, *, first: bool) -> Int[Tensor, " N"]:
    """Row of the first or last token of each text that takes part in pooling."""
    device = packed.token_ids.device
    rows = torch.arange(packed.num_tokens, device=device)
    outside = packed.num_tokens if first else -1
    rows = torch.where(packed.pooling_mask, rows, outside)
    start = torch.full((len(packed),), outside, dtype=rows.dtype, device=device)
    reduce = "amin" if first else "amax"
    return start.scatter_reduce(0, packed.text_of_token, rows, reduce)
