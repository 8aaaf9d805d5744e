"""One product of float32 matrices, by the faster of the two libraries that torch carries.

MKL, torch's own choice, takes its slow path on processors that are not Intel's: oneDNN runs there
at one and a half times to twice its speed (LOG.md).
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor


def matrix_product(
    left: Float[Tensor, "I K"], right: Float[Tensor, "K J"], bias: Float[Tensor, " J"] | None = None
) -> Float[Tensor, "I J"]:
    """``left @ right + bias`` for tensors whose rows are contiguous."""
    if left.dtype == torch.float32 and left.device.type == "cpu" and onednn_is_faster():
        # oneDNN wants the second factor as the weight of a linear layer: its transposed view.
        return torch.ops.mkldnn._linear_pointwise(left, right.T, bias, "none", [], "")
    return torch.mm(left, right) if bias is None else torch.addmm(bias, left, right)


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is a processor on which MKL takes its slow path, and oneDNN is there.

    Decided by the maker's name and not by a stopwatch, so that a run repeats bit for bit.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops, "mkldnn"):
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
