"""A checkpoint of transformers' BERT, RoBERTa or XLM-R -> a ``PackedBert``, nothing left open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from opengte.errors import ModelFolderError
from opengte.models.bert import PackedBert
from opengte.models.bert_names import checkpoint_names

PREFIXES = ("bert.", "roberta.", "")
IGNORED_WEIGHTS = ("pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids")
"""Parts of released checkpoints that an encoder has no use for."""
CARRIED_WEIGHTS = "pooler."
"""Unused, but transformers warns when its BertModel does not find it: written back unchanged."""


def load_packed_bert(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, dtype: torch.dtype
) -> PackedBert:
    """Build the encoder of a cleaned config and fill it.

    Raises:
        ModelFolderError: a weight is missing, is unknown, or has another shape.
    """
    bare = {_without_prefix(name): value for name, value in tensors.items()}
    with torch.device("meta"):
        backbone = PackedBert(config)
    expected = backbone.state_dict()
    state = from_checkpoint(expected, bare)
    _refuse_unknown(bare, backbone.to_checkpoint(state))
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise ModelFolderError(
                f"weight {name} has shape {tuple(state[name].shape)}, config.json asks for "
                f"{tuple(value.shape)}"
            )
    backbone.load_state_dict({n: v.to(dtype) for n, v in state.items()}, assign=True)
    for parameter in backbone.parameters():
        parameter.requires_grad_(True)
    backbone.carried = {
        name: value.to(dtype) for name, value in bare.items() if name.startswith(CARRIED_WEIGHTS)
    }
    return backbone


def from_checkpoint(
    own_names: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Transformers' parameters, without a prefix -> ours, some of them fused.

    Args:
        own_names: the names to fill.
        tensors: a checkpoint.

    Raises:
        ModelFolderError: a parameter is missing.
    """
    result = {}
    for name in own_names:
        theirs = checkpoint_names(name)
        missing = [part for part in theirs if part not in tensors]
        if missing:
            raise ModelFolderError(f"weights are missing: {', '.join(missing)}")
        result[name] = torch.cat([tensors[part] for part in theirs])
    return result


def _without_prefix(name: str) -> str:
    prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
    bare = name.removeprefix(prefix)
    # Checkpoints of 2018 call the parameters of a layer norm gamma and beta.
    return bare.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _refuse_unknown(tensors: Mapping[str, Tensor], used: Mapping[str, Tensor]) -> None:
    unknown = sorted(
        name for name in tensors if name not in used and not name.startswith(IGNORED_WEIGHTS)
    )
    if unknown:
        raise ModelFolderError(
            f"weights that the architecture does not have: {', '.join(unknown[:5])}"
        )
