"""What is trained and how gradients are treated: groups, clipping, float16 scaling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn

from opengte.training.config import TrainingConfig

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def trainable_parameters(*modules: nn.Module) -> dict[str, nn.Parameter]:
    """What the optimiser moves, by name; names of later modules are prefixed ``loss.``."""
    found: dict[str, nn.Parameter] = {}
    for number, module in enumerate(modules):
        prefix = "" if number == 0 else "loss."
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                found[prefix + name] = parameter
    return found


def decayed_names(module: nn.Module) -> set[str]:
    """Names of the parameters that weight decay pulls to 0: matrices outside norms.

    Vectors (biases, gains of norms, a learned temperature) are left out whatever they are called.
    """
    in_norms = {
        f"{path}.{name}" if path else name
        for path, child in module.named_modules()
        if "norm" in type(child).__name__.lower()
        for name, _ in child.named_parameters(recurse=False)
    }
    return {
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim >= 2 and name not in in_norms
    }


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], decayed: set[str], config: TrainingConfig
) -> torch.optim.AdamW:
    """Fused AdamW over float32 master weights, in two groups: with and without weight decay."""
    groups = [
        {
            "params": [p for name, p in parameters.items() if (name in decayed) == wanted],
            "weight_decay": config.weight_decay if wanted else 0.0,
        }
        for wanted in (True, False)
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.adam_betas,
        eps=config.adam_epsilon,
        fused=all(p.device.type in ("cpu", "cuda") for p in parameters.values()),
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """2-norm of the whole gradient; a plain tensor on every rank, sharded or not."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts = ([g for g in gradients if is_sharded(g) == wanted] for wanted in (True, False))
    norms = [torch.nn.utils.get_total_norm(part) for part in parts if part]
    whole = [norm.full_tensor() if is_sharded(norm) else norm for norm in norms]
    return torch.linalg.vector_norm(torch.stack(whole))


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether this rank holds a part of it (torch's DTensor).

    Asked by its method: importing the class takes half a second that one rank has no use for.
    """
    return hasattr(tensor, "full_tensor")


def clip_gradients(
    parameters: Sequence[nn.Parameter], norm: Tensor, max_norm: float | None
) -> None:
    """Scale all gradients so that their common norm is at most ``max_norm``."""
    if max_norm is not None and norm > max_norm:
        for gradient in (p.grad for p in parameters):
            if gradient is not None:
                gradient.mul_(max_norm / float(norm))


class Updater(Protocol):
    """Moves the weights along their gradients."""

    def update(self, learning_rate: float) -> float:
        """Take a step, forget the gradients, give their 2-norm before clipping."""
        ...

    def moments(self) -> Iterator[tuple[str, Tensor]]:
        """AdamW's whole tensors by name; every rank must ask."""
        ...

    def load_moments(self, values: Mapping[str, Tensor]) -> None:
        """Put back what ``moments`` gave."""
        ...


class LossScaler:
    """Keeps float16 gradients in range: multiplied on the way back, divided before the step.

    The scale doubles after ``growth_interval`` good steps and halves after a step whose
    gradient overflowed, which is left out (Micikevicius et al. 2018).
    """

    def __init__(self, *, enabled: bool, scale: float = 2.0**16, growth_interval: int = 2000):
        self.enabled = enabled
        self.scale = scale if enabled else 1.0
        self.growth_interval = growth_interval
        self.num_good = 0

    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the scale, in place."""
        if self.enabled:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.scale)

    def update(self, gradient_norm: float) -> None:
        """Move the scale after a step whose gradient had this norm."""
        if not self.enabled:
            return
        if not math.isfinite(gradient_norm):
            self.scale /= 2
            self.num_good = 0
            return
        self.num_good += 1
        if self.num_good % self.growth_interval == 0:
            self.scale *= 2

    @property
    def may_overflow(self) -> bool:
        """Whether a gradient that is not finite may be the scale's fault."""
        return self.enabled and self.scale >= 1.0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"scale": self.scale, "num_good": self.num_good}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.scale, self.num_good = state["scale"], state["num_good"]
