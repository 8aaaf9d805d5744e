"""torch's variable-length flash attention, where there is a GPU and it fits.

Axes: T tokens, H query heads, K key heads (H is a multiple of K), D size of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.models.length_groups import TextLayout

try:  # torch before 2.10 has no such function
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None  # type: ignore[assignment]

MAX_HEAD_SIZE = 256


def has_flash_attention(values: Tensor) -> bool:
    """Whether tensors like this one (..., D) can take this way."""
    fits = values.dtype in (torch.bfloat16, torch.float16) and values.shape[-1] <= MAX_HEAD_SIZE
    return varlen_attn is not None and values.is_cuda and fits and values.shape[-1] % 8 == 0


def flash_attention(
    query: Float[Tensor, "T H D"],
    key: Float[Tensor, "T K D"],
    value: Float[Tensor, "T K D"],
    layout: TextLayout,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
) -> Float[Tensor, "T H D"]:
    """Attention inside each text.

    Args:
        query: of all tokens.
        key: likewise.
        value: likewise.
        layout: where texts begin and end.
        scale: of the scores; 1 / sqrt(D) by default.
        causal: whether a token sees only itself and those before it.
        window: a token sees those less than this many tokens away; None for all.
    """
    reach = -1 if window is None else window - 1
    sizes: dict[str, Any] = {"window_size": (reach, 0 if causal else reach)}
    if query.shape[1] != key.shape[1]:
        sizes["enable_gqa"] = True
    longest = layout.max_length
    ends = layout.boundaries
    result = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scale, **sizes)
    assert isinstance(result, Tensor)
    return result
