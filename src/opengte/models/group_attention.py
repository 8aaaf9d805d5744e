"""Attention of transformers' own models on packed tokens.

Axes: T tokens, H query heads, K key heads, D size of a head; of one group: n texts, L its longest.

transformers lets a model call a registered attention function. Ours reads the layout of the
packed batch that travels along as a keyword: with ``position_ids`` alone, bidirectional models
would silently let texts see each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from opengte.models.flash_attention import flash_attention, has_flash_attention
from opengte.models.length_groups import LengthGroup, TextLayout

NAME = "opengte_packed"
"""Under which transformers finds the attention function."""


@dataclass(frozen=True)
class Pattern:
    """Which tokens of its text a token sees.

    Attributes:
        causal: only itself and those before it.
        window: those less than this many tokens away; None for all.
        bias: float, (H, 2 * M - 1): added to the scores by distance, key minus query, from
            -(M - 1) to M - 1 (T5); None for no bias.
    """

    causal: bool
    window: int | None = None
    bias: Tensor | None = None


def register() -> None:
    """Tell transformers of the attention function."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention_function)


def attention_function(
    module: nn.Module,
    query: Float[Tensor, "1 H T D"],
    key: Float[Tensor, "1 K T D"],
    value: Float[Tensor, "1 K T D"],
    attention_mask: Tensor | None,
    *,
    layout: TextLayout,
    causal: bool,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "1 T H D"], None]:
    """What transformers calls in every layer; see its ``sdpa_attention_forward``."""
    del module, attention_mask  # the layout says more than a mask could
    pattern = Pattern(causal, sliding_window, position_bias)
    # Rotary positions are float32, and leave queries and keys so under autocast.
    q, k, v = (states[0].transpose(0, 1).to(value.dtype) for states in (query, key, value))
    if position_bias is None and not dropout and has_flash_attention(q):
        window = sliding_window
        out = flash_attention(q, k, v, layout, scale=scaling, causal=causal, window=window)
    else:
        out = grouped_attention(q, k, v, layout, pattern, scale=scaling, dropout=dropout)
    return out[None], None


def grouped_attention(
    query: Float[Tensor, "T H D"],
    key: Float[Tensor, "T K D"],
    value: Float[Tensor, "T K D"],
    layout: TextLayout,
    pattern: Pattern,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "T H D"]:
    """Attention inside each text, one group of about equal lengths after the other.

    Args:
        query: of all tokens.
        key: likewise; H is a multiple of K, and every H / K query heads share a key head.
        value: likewise.
        layout: where texts begin and end.
        pattern: which tokens see which.
        scale: of the scores; 1 / sqrt(D) by default.
        dropout: of probabilities.
    """
    parts = []
    for group in layout.groups.groups:
        heads = (group.take(states).transpose(1, 2) for states in (query, key, value))
        mask = _mask(group, pattern, query.dtype, query.device)
        out = functional.scaled_dot_product_attention(
            next(heads),
            next(heads),
            next(heads),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=pattern.causal and mask is None,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return layout.groups.put_back(parts)


def _mask(
    group: LengthGroup, pattern: Pattern, dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    """(n or 1, 1 or H, L, L): true or a bias where a token sees another; None for no limit.

    Under a causal pattern padding needs no mask: it stands behind every token of its text.
    """
    length = group.length
    seen = None
    places = torch.arange(length, device=device)
    distance = places[None, :] - places[:, None]
    if pattern.window is not None and pattern.window < length:
        seen = (distance.abs() < pattern.window)[None, None]
    if pattern.causal and (seen is not None or pattern.bias is not None):
        before = (distance <= 0)[None, None]
        seen = before if seen is None else seen & before
    if not pattern.causal and group.is_real is not None:
        real = group.is_real[:, None, None, :]
        seen = real if seen is None else seen & real
        # A padded query that sees nothing would give NaN, and NaN times zero gradient is NaN.
        seen = seen | torch.eye(length, dtype=torch.bool, device=device)
    if pattern.bias is None:
        return seen
    middle = (pattern.bias.shape[-1] - 1) // 2
    bias = pattern.bias[:, distance + middle][None].to(dtype)
    return bias if seen is None else bias.masked_fill(~seen, float("-inf"))
