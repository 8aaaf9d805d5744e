"""Gradients -> moved weights, with AdamW's moments to save and to load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from opengte.training.config import TrainingConfig
from opengte.training.optimizer import (
    LossScaler,
    clip_gradients,
    gradient_norm,
    make_optimizer,
    set_learning_rate,
)

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class AdamWUpdater:
    """torch's fused AdamW over the parameters this rank holds, whole or in part.

    Args:
        parameters: by name.
        decayed: names of those that weight decay pulls to 0.
        config: betas, epsilon, decay, clipping.
        scaler: of float16 gradients.
        add_up: makes every gradient the sum over ranks.
        whole, fill: read and write tensors that may be sharded.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        decayed: set[str],
        config: TrainingConfig,
        scaler: LossScaler,
        *,
        add_up: Callable[[Sequence[nn.Parameter]], None],
        whole: Callable[[Tensor], Tensor],
        fill: Callable[[Tensor, Tensor], None],
    ) -> None:
        self.parameters = dict(parameters)
        self.optimizer = make_optimizer(parameters, decayed, config)
        self.max_norm = config.max_grad_norm
        self.scaler = scaler
        self._add_up, self._whole, self._fill = add_up, whole, fill

    def update(self, learning_rate: float) -> float:
        """Take a step and forget the gradients; a gradient that is not finite moves nothing.

        Returns:
            The gradient's 2-norm, before clipping.
        """
        parameters = list(self.parameters.values())
        self._add_up(parameters)
        self.scaler.unscale(parameters)
        norm = gradient_norm(parameters)
        value = float(norm)
        self.scaler.update(value)
        if math.isfinite(value):
            clip_gradients(parameters, norm, self.max_norm)
            set_learning_rate(self.optimizer, learning_rate)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def moments(self) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors by name; every rank must ask."""
        for name, parameter in self.parameters.items():
            if not self.optimizer.state.get(parameter):
                continue  # a part that no loss of this stage reaches, a sparse head say
            for key in MOMENTS:
                yield f"{name}/{key}", self._whole(self.optimizer.state[parameter][key])

    def load_moments(self, values: Mapping[str, Tensor]) -> None:
        """Put back what ``moments`` gave."""
        for name, parameter in self.parameters.items():
            if f"{name}/{MOMENTS[0]}" not in values:
                continue
            state = self.optimizer.state[parameter]
            for key in MOMENTS:
                like = torch.zeros((), device=parameter.device) if key == "step" else parameter
                state[key] = torch.zeros_like(like, requires_grad=False)
                self._fill(state[key], values[f"{name}/{key}"])
