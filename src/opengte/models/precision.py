"""Which number format a machine computes fastest in, and linear layers that compute in it.

Weights stay float32 (the optimizer needs their small changes) and are cast where they are used.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from opengte.errors import ConfigError
from opengte.matrix_product import matrix_product, onednn_is_faster

ComputeDtype = Literal["auto", "float32", "bfloat16"]
BF16_CPU_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""Units that multiply bfloat16 natively: Intel AMX, AVX-512 BF16, Armv8.6 BF16. Without one of
them bfloat16 is emulated and slower than float32. Measured with AVX-512 BF16 alone (no AMX):
4.5 times the float32 rate of matrix products."""


@cache
def cpu_has_bfloat16_units() -> bool:
    """Whether this machine's processor multiplies bfloat16 natively."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return bool(torch.cpu._is_amx_tile_supported())
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return bool(BF16_CPU_FLAGS & set(flags.split()))


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of activations on ``device``; ``auto`` takes bfloat16 where it is fast.

    Raises:
        ConfigError: a name other than auto, float32, bfloat16.
    """
    if name == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and cpu_has_bfloat16_units()
        return torch.bfloat16 if fast else torch.float32
    if name not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype must be auto, float32 or bfloat16, got {name!r}")
    return torch.float32 if name == "float32" else torch.bfloat16


class CastLinear(nn.Linear):
    """A linear layer with float32 weights that computes in the number format of its input.

    While it learns, weights are cast at every call. While it does not (evaluation mode, or
    frozen), the cast weights are kept until a weight is written to. torch does not count writes
    through ``.data`` (peft merges adapters so): ``forget_if_changed`` looks for those.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self._kept: tuple[Any, Tensor, Tensor | None, Tensor] | None = None

    def forward(self, input: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """``input @ weight.T + bias``."""
        if input.dtype == self.weight.dtype:
            return self._as_it_is(input)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            self._kept = None
            result: Tensor = _CastProduct.apply(input, self.weight, self.bias)
            return result
        weight, bias = self._cast(input.dtype)
        return functional.linear(input, weight, bias)

    def _as_it_is(self, input: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """Without a cast; while it learns on a CPU, by the faster library.

        Also without a graph: a pass that is computed again must give the same numbers.
        """
        wide = input.dtype == torch.float32 and input.device.type == "cpu"
        if self.training and wide and onednn_is_faster():
            result: Tensor = _Float32Product.apply(input, self.weight, self.bias)
            return result
        return functional.linear(input, self.weight, self.bias)

    def forget_cast(self) -> None:
        """Drop the kept cast weights."""
        self._kept = None

    def forget_if_changed(self) -> None:
        """Drop the kept cast weights if some of the weights differ from when they were cast.

        A sample of eight weights is compared, in microseconds: a write to the whole layer is
        seen, one to a few single weights may not be.
        """
        if self._kept is not None and not torch.equal(self._kept[3], self._sample()):
            self._kept = None

    def train(self, mode: bool = True) -> CastLinear:
        """Switch between learning and evaluation; kept weights are dropped."""
        self._kept = None
        super().train(mode)
        return self

    def _cast(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        versions = [
            None if t is None else (t.data_ptr(), t._version) for t in (self.weight, self.bias)
        ]
        key = (dtype, *versions)
        if self._kept is None or self._kept[0] != key:
            with torch.no_grad():
                bias = None if self.bias is None else self.bias.to(dtype)
                self._kept = (key, self.weight.to(dtype), bias, self._sample())
        return self._kept[1], self._kept[2]

    def _sample(self) -> Tensor:
        flat = self.weight.detach().flatten()
        return flat[:: max(1, len(flat) // 8)].clone()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


class _Float32Product(torch.autograd.Function):
    """``x @ w.T + b`` and its gradients by ``matrix_product``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        rows = x.reshape(-1, x.shape[-1])
        return matrix_product(rows, weight.t(), bias).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = matrix_product(rows, weight).view_as(x)
        if ctx.needs_input_grad[1]:
            inputs = x.reshape(-1, x.shape[-1])
            grad_weight = matrix_product(rows.t().contiguous(), inputs)
        grad_bias = rows.sum(0) if ctx.has_bias else None
        return grad_x, grad_weight, grad_bias


class _CastProduct(torch.autograd.Function):
    """``x @ w.T + b`` in the format of x; gradients of w and b arrive in theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        cast = weight.to(x.dtype)
        ctx.save_for_backward(x, cast)
        ctx.has_bias = bias is not None
        return functional.linear(x, cast, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        grad_weight = (rows.t() @ x.reshape(-1, x.shape[-1])).float()
        grad_bias = rows.sum(0, dtype=torch.float32) if ctx.has_bias else None
        return grad_x, grad_weight, grad_bias
