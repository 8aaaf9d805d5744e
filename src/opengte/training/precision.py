"""The ``precision`` of a recipe -> the number format of the products on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from opengte.errors import ConfigError
from opengte.training.config import Precision

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


def set_precision(encoder: Encoder, precision: Precision, device: torch.device) -> None:
    """Let the encoder compute in ``precision``; its weights stay as they are.

    Raises:
        ConfigError: float16 on a processor, which is slower there than float32.
    """
    if precision == "float16" and device.type != "cuda":
        raise ConfigError("precision float16 needs a GPU; use bfloat16 or float32 on a CPU")
    encoder.compute_dtype = precision
