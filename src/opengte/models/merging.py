"""Several encoders of one architecture -> one, by arithmetic on their weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from opengte.errors import ConfigError
from opengte.models.encoder import Encoder


def interpolate(encoder_a: Encoder, encoder_b: Encoder, weight: float) -> Encoder:
    """A new encoder with weights ``weight * a + (1 - weight) * b``.

    Args:
        encoder_a: gives everything but the weights too: settings, tokenizer, number format.
        encoder_b: of the same architecture.
        weight: share of ``encoder_a``, in [0, 1].

    Raises:
        ConfigError: the architectures differ, or ``weight`` is outside [0, 1].
    """
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"weight must be in [0, 1], got {weight}")
    return merge_linear([encoder_a, encoder_b], [weight, 1.0 - weight])


def merge_linear(encoders: Sequence[Encoder], weights: Sequence[float]) -> Encoder:
    """A new encoder with the weighted sum of the weights (model soup, Wortsman et al. 2022).

    Raises:
        ConfigError: not as many weights as encoders, or architectures that differ.
    """
    if len(encoders) != len(weights) or not encoders:
        raise ConfigError(f"{len(encoders)} encoders need as many weights, got {len(weights)}")
    states = [encoder.state_dict() for encoder in encoders]
    _check_same_shapes(states)
    merged = copy.deepcopy(encoders[0])
    with torch.no_grad():
        for name, target in merged.state_dict().items():
            total = sum(
                share * state[name].to(target.device)
                for share, state in zip(weights, states, strict=True)
            )
            target.copy_(total)
    return merged


def _check_same_shapes(states: Sequence[dict[str, Tensor]]) -> None:
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    for i, other in enumerate(shapes[1:], start=1):
        if other != shapes[0]:
            names = sorted({*other} ^ {*shapes[0]})
            names += sorted(n for n in {*other} & {*shapes[0]} if other[n] != shapes[0][n])
            raise ConfigError(
                f"encoders 0 and {i} differ in architecture and cannot be merged: {names[0]}"
            )
