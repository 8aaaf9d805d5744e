"""Several encoders of one architecture -> one, by arithmetic on their weights.

What is merged are all parameters; everything else (settings, tokenizer) comes from the first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opengte.errors import ConfigError
from opengte.models.encoder import Encoder

SMALLEST_SINE = 1e-6
"""Below this the arc is a straight line within rounding."""


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


def merge_slerp(encoders: Sequence[Encoder], weights: Sequence[float] | None = None) -> Encoder:
    """A new encoder on the great arc between the weights, tensor by tensor.

    Qwen3-Embedding merges its last checkpoints so (Zhang et al. 2025, 3.3; the formula is
    Shoemake's, 1985): sin((1 - t) o) / sin(o) a + sin(t o) / sin(o) b with the angle o between a
    and b, each seen as one vector; a straight line where they are parallel. Several are merged
    one after the other, each with its share of the weights so far.

    Args:
        encoders: at least one.
        weights: their shares, above 0; equal by default.

    Raises:
        ConfigError: not as many weights as encoders, a weight that is not above 0, or
            architectures that differ.
    """
    shares = [1.0] * len(encoders) if weights is None else list(weights)
    if len(encoders) != len(shares) or not encoders:
        raise ConfigError(f"{len(encoders)} encoders need as many weights, got {len(shares)}")
    if min(shares) <= 0:
        raise ConfigError(f"weights must be > 0, got {min(shares)}")
    states = [encoder.state_dict() for encoder in encoders]
    _check_same_shapes(states)
    merged = copy.deepcopy(encoders[0])
    with torch.no_grad():
        for name, target in merged.state_dict().items():
            total = shares[0]
            for share, state in zip(shares[1:], states[1:], strict=True):
                total += share
                target.copy_(slerp(target, state[name].to(target.device), share / total))
    return merged


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """The point at ``share`` of the way from ``start`` to ``end`` on the arc between them.

    Lengths are kept as they are: the formula is applied to the vectors, not to their directions.
    """
    a, b = start.double().flatten(), end.double().flatten()
    lengths = a.norm() * b.norm()
    cosine = float(a @ b / lengths) if lengths > 0 else 1.0
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < SMALLEST_SINE:
        mixed = (1.0 - share) * a + share * b
    else:
        left = math.sin((1.0 - share) * angle) / math.sin(angle)
        mixed = left * a + math.sin(share * angle) / math.sin(angle) * b
    return mixed.to(start.dtype).view_as(start)


@dataclass(frozen=True)
class Angles:
    """How far two models lie apart, in radians, each tensor seen as one vector.

    Attributes:
        mean: over the tensors.
        largest: of all of them.
    """

    mean: float
    largest: float


def angles(first: Encoder, second: Encoder) -> Angles:
    """Angles between the weights of two encoders: what slerp goes along.

    Raises:
        ConfigError: their architectures differ.
    """
    states = [first.state_dict(), second.state_dict()]
    _check_same_shapes(states)
    found = []
    for name, value in states[0].items():
        a, b = value.double().flatten(), states[1][name].double().flatten()
        # By half the chord, exact where the arc is short and the cosine is 1 within rounding.
        lengths = a.norm(), b.norm()
        if lengths[0] > 0 and lengths[1] > 0:
            chord = float((a / lengths[0] - b / lengths[1]).norm())
            found.append(2 * math.asin(min(1.0, chord / 2)))
    return Angles(mean=sum(found) / max(1, len(found)), largest=max(found, default=0.0))


def _check_same_shapes(states: Sequence[dict[str, Tensor]]) -> None:
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    for i, other in enumerate(shapes[1:], start=1):
        if other != shapes[0]:
            names = sorted({*other} ^ {*shapes[0]})
            names += sorted(n for n in {*other} & {*shapes[0]} if other[n] != shapes[0][n])
            raise ConfigError(
                f"encoders 0 and {i} differ in architecture and cannot be merged: {names[0]}"
            )
