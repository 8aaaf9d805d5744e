"""torch's variable-length flash attention, where there is a GPU and it fits.

Axes: T tokens, H query heads, K key heads (H is a multiple of K), D size of a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.models.length_groups import TextLayout

MAX_HEAD_SIZE = 256


@functools.cache
def _varlen_attention() -> Callable[..., Any] | None:
    """Torch's function, None before torch 2.10.

    Looked up when a GPU asks for it: it brings torch's compiler along, two seconds that a process
    without a GPU would spend at its start for nothing.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def has_flash_attention(values: Tensor) -> bool:
    """Whether tensors like this one (..., D) can take this way."""
    if not values.is_cuda or values.dtype not in (torch.bfloat16, torch.float16):
        return False
    fits = values.shape[-1] <= MAX_HEAD_SIZE and values.shape[-1] % 8 == 0
    return fits and _varlen_attention() is not None


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
    varlen_attention = _varlen_attention()
    assert varlen_attention is not None, "has_flash_attention says whether there is one"
    result = varlen_attention(query, key, value, ends, ends, longest, longest, scale=scale, **sizes)
    assert isinstance(result, Tensor)
    return result
