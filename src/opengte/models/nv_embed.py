"""NV-Embed as it was released -> a bidirectional Mistral and its latent attention.

The released folder nests two configs and two sets of weights, and brings code of its own, which
is not run: both parts are here already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from opengte.errors import ModelFolderError
from opengte.models.latent_attention import RELEASED_NAMES, LatentAttention, LatentAttentionConfig

BACKBONE_PREFIX = "embedding_model."
LATENT_PREFIX = "latent_attention_model."


def split_released(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor], LatentAttention]:
    """The parts of a released folder.

    Args:
        config: its ``config.json`` of type ``nvembed``.
        tensors: its weights.

    Returns:
        Config and weights of the backbone, and latent attention with its weights.

    Raises:
        ModelFolderError: a weight is missing or unknown.
    """
    text, latent = dict(config["text_config"]), config["latent_attention_config"]
    text.update(model_type="mistral", is_causal=False, sliding_window=None)
    layer = LatentAttention(
        LatentAttentionConfig(
            hidden_size=int(latent["hidden_dim"]),
            num_latents=int(latent["num_latents_value"]),
            num_heads=int(latent["num_cross_heads"]),
            head_size=int(latent["cross_dim_head"]),
            latent_size=int(latent["latent_dim"]),
        )
    )
    backbone = _below(tensors, BACKBONE_PREFIX)
    released = _below(tensors, LATENT_PREFIX)
    unknown = sorted(n for n in tensors if not n.startswith((BACKBONE_PREFIX, LATENT_PREFIX)))
    names = {}
    for name in layer.state_dict():
        part, dot, kind = name.partition(".")
        names[name] = RELEASED_NAMES[part] + dot + kind
    missing = sorted(name for name in names.values() if name not in released)
    if missing:
        raise ModelFolderError(f"weights are missing in latent attention: {', '.join(missing[:5])}")
    unknown += sorted(LATENT_PREFIX + name for name in {*released} - {*names.values()})
    if unknown:
        raise ModelFolderError(
            f"weights that the architecture does not have: {', '.join(unknown[:5])}"
        )
    layer.load_state_dict({ours: released[theirs].float() for ours, theirs in names.items()})
    return text, backbone, layer


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
