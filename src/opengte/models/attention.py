"""Attention inside each text of a packed batch.

Axes: T tokens, H heads, D size of a head; of one group of texts: n texts, L its longest.

On a CPU this is plain matrix product - softmax - matrix product, group by group, with a backward
pass written by hand: torch's ``scaled_dot_product_attention`` spends more time in its backward
pass than the rest of a training step takes together (bfloat16), and drops no probabilities
cheaply. On a GPU it is torch's variable-length flash attention, which drops no probabilities:
where that is asked for, the plain form runs there too.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.models.dropout import apply_mask, keep_mask, keep_scale
from opengte.models.flash_attention import flash_attention, has_flash_attention
from opengte.models.length_groups import LengthGroup, LengthGroups, TextLayout

VECTOR_LANES = 32
"""Row lengths that are a multiple of this run torch's fast bfloat16 softmax."""


def attend(
    qkv: Float[Tensor, "T 3 H D"],
    layout: TextLayout,
    *,
    dropout: float = 0.0,
    training: bool = False,
) -> Float[Tensor, "T H D"]:
    """softmax(q k^T / sqrt(D)) v, each text for itself, by the fastest means of the device."""
    drops = training and dropout > 0.0
    if drops or not has_flash_attention(qkv):
        return packed_attention(qkv, layout.groups, dropout=dropout, training=training)
    query, key, value = qkv.unbind(1)
    return flash_attention(query, key, value, layout)


def packed_attention(
    qkv: Float[Tensor, "T 3 H D"],
    groups: LengthGroups,
    *,
    dropout: float = 0.0,
    training: bool = False,
) -> Float[Tensor, "T H D"]:
    """softmax(q k^T / sqrt(D)) v, each text for itself, in both directions.

    Args:
        qkv: queries, keys and values of all tokens.
        groups: the texts, grouped by length.
        dropout: probability of dropping an attention probability, while ``training``.
        training: whether to drop.
    """
    probability = dropout if training else 0.0
    if torch.is_grad_enabled() and qkv.requires_grad:
        result: Tensor = _GroupedAttention.apply(qkv, groups, probability)
        return result
    parts = [_forward_group(qkv, group, probability)[0] for group in groups.groups]
    return groups.put_back(parts)


def _forward_group(
    qkv: Tensor, group: LengthGroup, dropout: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Output (n * L, H, D), probabilities (n * H, L, L), mask of the kept ones or None."""
    query, key, value = _heads_first(group.take(qkv))
    scores = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2))
    if group.is_real is not None:
        per_head = scores.unflatten(0, (group.num_texts, -1))
        per_head.masked_fill_(~group.is_real[:, None, None, :], float("-inf"))
    probabilities = _softmax(scores)
    mask = None
    kept = probabilities
    if dropout:
        mask = keep_mask(probabilities, dropout)
        kept = apply_mask(probabilities, mask).mul_(keep_scale(dropout))
    output = torch.bmm(kept, value).unflatten(0, (group.num_texts, -1)).transpose(1, 2)
    return output.flatten(0, 1), probabilities, mask


def _heads_first(qkv: Tensor) -> Tensor:
    """(n, L, 3, H, D) -> (3, n * H, L, D)."""
    return qkv.permute(2, 0, 3, 1, 4).flatten(1, 2)


def _softmax(scores: Tensor) -> Tensor:
    if scores.dtype == torch.float32 or scores.shape[-1] % VECTOR_LANES == 0:
        return scores.softmax(-1)
    return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)


def _softmax_backward(grad: Tensor, probabilities: Tensor) -> Tensor:
    if grad.dtype == torch.float32 or grad.shape[-1] % VECTOR_LANES == 0:
        return torch.ops.aten._softmax_backward_data(grad, probabilities, -1, grad.dtype)
    wide = torch.ops.aten._softmax_backward_data(
        grad.float(), probabilities.float(), -1, torch.float32
    )
    return wide.to(grad.dtype)


class _GroupedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, groups: LengthGroups, dropout: float) -> Tensor:
        parts, saved = [], [qkv]
        for group in groups.groups:
            output, probabilities, mask = _forward_group(qkv, group, dropout)
            parts.append(output)
            saved.append(probabilities)
            if mask is not None:
                saved.append(mask)
        ctx.save_for_backward(*saved)
        ctx.groups, ctx.dropout = groups, dropout
        return groups.put_back(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        qkv, *saved = ctx.saved_tensors
        step = 2 if ctx.dropout else 1
        parts = []
        for i, group in enumerate(ctx.groups.groups):
            mask = saved[i * step + 1] if ctx.dropout else None
            parts.append(_backward_group(qkv, grad, group, saved[i * step], mask, ctx.dropout))
        return ctx.groups.put_back(parts), None, None


def _backward_group(
    qkv: Tensor,
    grad: Tensor,
    group: LengthGroup,
    probabilities: Tensor,
    mask: Tensor | None,
    dropout: float,
) -> Tensor:
    """Gradient of a group's (n * L, 3, H, D) queries, keys and values."""
    query, key, value = _heads_first(group.take(qkv))
    grad_output = group.take(grad)
    if group.is_real is not None:
        grad_output = grad_output * group.is_real[:, :, None, None].to(grad.dtype)
    grad_output = grad_output.transpose(1, 2).flatten(0, 1)
    scale = query.shape[-1] ** -0.5
    grad_kept = torch.bmm(grad_output, value.transpose(1, 2))
    kept = probabilities
    if mask is not None:
        kept = apply_mask(probabilities, mask).mul_(keep_scale(dropout))
        grad_kept = apply_mask(grad_kept, mask).mul_(keep_scale(dropout))
    grad_scores = _softmax_backward(grad_kept, probabilities)
    result = qkv.new_empty((3, *query.shape))
    torch.bmm(grad_scores, key, out=result[0])
    torch.bmm(grad_scores.transpose(1, 2), query, out=result[1])
    torch.bmm(kept.transpose(1, 2), grad_output, out=result[2])
    result[:2].mul_(scale)
    shaped = result.unflatten(1, (group.num_texts, -1))
    return shaped.permute(1, 3, 0, 2, 4).flatten(0, 1)
