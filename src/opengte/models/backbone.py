"""Packed tokens -> token states: what an encoder asks of its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from opengte.models.packing import PackedTokens


@runtime_checkable
class Backbone(Protocol):
    """A transformer on packed tokens; every implementation is an ``nn.Module`` too.

    Attributes:
        config: the contents of its transformers ``config.json``.
        compute_dtype: number format of activations.
        gradient_checkpointing: recompute layers in the backward pass instead of keeping them.
        dropout: of hidden states and of attention probabilities.
        carried: weights that are not used and are written back unchanged.
    """

    config: dict[str, Any]
    compute_dtype: torch.dtype
    gradient_checkpointing: bool
    dropout: tuple[float, float]
    carried: dict[str, Tensor]

    @property
    def hidden_size(self) -> int:
        """C."""
        ...

    @property
    def vocab_size(self) -> int:
        """Rows of the word embedding."""
        ...

    @property
    def word_embedding(self) -> nn.Embedding:
        """The word embedding, (vocab_size, C)."""
        ...

    @property
    def num_positions(self) -> int:
        """Longest text it can read, in tokens."""
        ...

    def __call__(self, packed: PackedTokens) -> Float[Tensor, "T C"]:
        """States of all tokens, in ``compute_dtype``."""
        ...

    def set_dropout(self, hidden: float, attention: float) -> None:
        """Set both dropout probabilities."""
        ...

    def to_checkpoint(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its parameters (or their gradients), by name -> under the names transformers uses."""
        ...
