"""A config, and weights or a seed -> a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from opengte.models.architectures import OWN_TYPES, architecture_of, clean_config
from opengte.models.backbone import Backbone
from opengte.models.bert import PackedBert, initialise
from opengte.models.bert_checkpoint import load_packed_bert
from opengte.models.shape_caches import bound_shape_caches
from opengte.models.transformers_backbone import (
    load_transformers_backbone,
    new_transformers_backbone,
)


def build_backbone(
    config: Mapping[str, Any],
    tensors: dict[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
    through_transformers: bool = False,
) -> Backbone:
    """The backbone of a ``config.json``, with a checkpoint's weights; none missing, none unknown.

    Args:
        config: its contents, as released: old names are rewritten.
        tensors: the weights, under any of the names that transformers knows.
        dtype: number format of the weights; training wants float32.
        through_transformers: take transformers' model where ours would be faster; adapters that
            look for its module names need that.

    Raises:
        ModelFolderError: an unknown architecture; a weight that is missing, unknown or of another
            shape.
    """
    bound_shape_caches()
    cleaned = clean_config(config)
    architecture_of(cleaned)
    if cleaned["model_type"] in OWN_TYPES and not through_transformers:
        return load_packed_bert(cleaned, tensors, dtype=dtype)
    return load_transformers_backbone(cleaned, tensors, dtype=dtype)


def new_backbone(config: Mapping[str, Any], *, seed: int | None, device: str = "cpu") -> Backbone:
    """The backbone of a ``config.json`` with random weights; on ``meta``, without any.

    Args:
        config: its contents; any size.
        seed: of the random weights; None with ``meta``.
        device: ``cpu`` or ``meta``.
    """
    bound_shape_caches()
    cleaned = clean_config(config)
    architecture_of(cleaned)
    if cleaned["model_type"] not in OWN_TYPES:
        return new_transformers_backbone(cleaned, seed=seed, device=device)
    with torch.device(device):
        backbone = PackedBert(cleaned)
    if seed is not None:
        initialise(backbone, seed=seed)
    return backbone
