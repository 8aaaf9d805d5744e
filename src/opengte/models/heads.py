"""Layers between the pooled vector and the embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from opengte.errors import ConfigError
from opengte.model_modules import ACTIVATIONS as ACTIVATION_NAMES

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda values: values,
    "tanh": torch.tanh,
    "relu": functional.relu,
    "gelu": functional.gelu,
}


class Dense(nn.Module):
    """A linear layer with an activation, in float32: sentence-transformers' ``Dense``.

    With ``out_features > in_features`` it is the linear up-projection of several C-MTEB systems.

    Args:
        in_features, out_features: sizes.
        bias: whether it has one.
        activation: one of ``ACTIVATIONS``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        activation: str = "identity",
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ConfigError(f"activation must be one of {known}, got {activation!r}")
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = activation

    def forward(self, vectors: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        """activation(vectors @ weight.T + bias)."""
        return ACTIVATIONS[self.activation](self.linear(vectors))

    def describe(self) -> dict[str, Any]:
        """Its ``config.json`` in a sentence-transformers folder."""
        by_name = {ours: theirs for theirs, ours in ACTIVATION_NAMES.items()}
        return {
            "in_features": self.linear.in_features,
            "out_features": self.linear.out_features,
            "bias": self.linear.bias is not None,
            "activation_function": by_name[self.activation],
        }


def cut_dimensions(
    vectors: Float[Tensor, "N D"], dimensions: int | None, *, normalised: bool
) -> Float[Tensor, "N d"]:
    """Keep the first ``dimensions`` values; bring them to length 1 again where they were.

    Matryoshka representations (Kusupati et al. 2022): the first values are an embedding too.
    """
    if dimensions is None or dimensions == vectors.shape[-1]:
        return vectors
    cut = vectors[..., :dimensions]
    return functional.normalize(cut, dim=-1) if normalised else cut
