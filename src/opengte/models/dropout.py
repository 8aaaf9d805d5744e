"""Dropout whose random numbers cost little on a CPU.

torch draws one random number for each element from a serial generator: about 5 ns each, which is
a tenth of a training step. Here one draw of 64 bits serves four elements, so that probabilities
are multiples of 1/65536, and masks are applied as bit operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 1 << 16
_INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def dropout(values: Tensor, probability: float, *, training: bool) -> Tensor:
    """Set each element to zero with ``probability`` and scale the others by its complement."""
    if not training or probability == 0.0:
        return values
    if values.device.type != "cpu" or values.dtype not in _INTEGERS:
        return functional.dropout(values, probability)
    result: Tensor = _MaskedScale.apply(values, None, probability)
    return result


def add_dropout(residual: Tensor, values: Tensor, probability: float, *, training: bool) -> Tensor:
    """``residual + dropout(values)``, in one pass less."""
    if not training or probability == 0.0:
        return residual + values
    if values.device.type != "cpu" or values.dtype not in _INTEGERS:
        return residual + functional.dropout(values, probability)
    result: Tensor = _MaskedScale.apply(values, residual, probability)
    return result


def keep_mask(values: Tensor, probability: float) -> Tensor:
    """All bits set where an element is kept, else none, as integers as wide as ``values``."""
    count = values.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64, device=values.device)
    draws.random_(-(2**63), None)
    lanes = draws.view(torch.int16)[:count]
    threshold = round(probability * LEVELS) - LEVELS // 2
    return lanes.ge_(threshold).neg_().view(values.shape).to(_INTEGERS[values.dtype])


def keep_scale(probability: float) -> float:
    """One over the probability with which ``keep_mask`` keeps an element."""
    return LEVELS / (LEVELS - round(probability * LEVELS))


def apply_mask(values: Tensor, mask: Tensor) -> Tensor:
    """Zero the elements whose mask is empty."""
    return (values.contiguous().view(mask.dtype) & mask).view(values.dtype)


class _MaskedScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, residual: Tensor | None, probability: float) -> Tensor:
        mask = keep_mask(values, probability)
        ctx.save_for_backward(mask)
        ctx.scale = keep_scale(probability)
        ctx.has_residual = residual is not None
        kept = apply_mask(values, mask)
        if residual is None:
            return kept.mul_(ctx.scale)
        return torch.add(residual, kept, alpha=ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (mask,) = ctx.saved_tensors
        (grad,) = grads
        kept = apply_mask(grad, mask).mul_(ctx.scale)
        return kept, grad if ctx.has_residual else None, None
