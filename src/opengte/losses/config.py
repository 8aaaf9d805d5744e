"""A recipe's ``loss:`` -> a function from an embedded batch to one scalar.

One frozen dataclass a loss, told apart by ``kind``; ``make_loss`` turns it into a function. The
result is a ``torch.nn.Module`` with parameters of its own where something is learned with it.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from opengte.losses.contrastive_config import (
    ImprovedContrastiveConfig,
    InfoNCEConfig,
    InstructorConfig,
    Qwen3ContrastiveConfig,
    make_contrastive_loss,
)
from opengte.losses.inputs import EmbeddedBatch

Loss = Callable[[EmbeddedBatch], Float[Tensor, ""]]

LossConfig = ImprovedContrastiveConfig | InfoNCEConfig | Qwen3ContrastiveConfig | InstructorConfig


def make_loss(config: LossConfig) -> Loss:
    """The function that ``config`` describes."""
    return make_contrastive_loss(config)
