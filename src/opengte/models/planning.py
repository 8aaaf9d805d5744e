"""A config -> names and shapes of its weights, without computing or storing one."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from opengte.models.building import new_backbone


def weight_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of each weight by the name that transformers gives it.

    Built on torch's ``meta`` device: seven billion parameters take milliseconds and no memory.

    Args:
        config: contents of a ``config.json``, of any size.

    Raises:
        ModelFolderError: an unknown architecture.
    """
    backbone = new_backbone(config, seed=None, device="meta")
    state = backbone.state_dict()  # type: ignore[attr-defined]
    return {name: tuple(value.shape) for name, value in backbone.to_checkpoint(state).items()}


def count_parameters(config: Mapping[str, Any]) -> int:
    """Number of parameters of a backbone, tied ones once."""
    return sum(prod(shape) for shape in weight_shapes(config).values())
