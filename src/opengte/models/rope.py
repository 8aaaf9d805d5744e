"""Rotary positions of a model changed: another base, or NTK scaling, for longer texts.

mGTE (Zhang et al. 2024, 2.1 and App. B) trains with base 10,000 at 2048 tokens and 160,000 at 8192,
goes back to 20,000 for its short contrastive stage ("reverse NTK") and reaches 8192 again by NTK
scaling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from opengte.errors import ConfigError
from opengte.models.architectures import clean_config, transformers_config
from opengte.models.mgte import ntk_rope
from opengte.models.transformers_backbone import TransformersBackbone


def change_rope(
    config: Mapping[str, Any],
    *,
    theta: float | None = None,
    ntk_factor: float | None = None,
    max_positions: int | None = None,
) -> dict[str, Any]:
    """A config with other rotary positions.

    Args:
        config: contents of a ``config.json``.
        theta: the new base; unchanged by default. ModernBERT's base of global attention.
        ntk_factor: scale for texts so many times longer, from the base that was trained with.
        max_positions: the longest text, in tokens; unchanged by default.

    Raises:
        ConfigError: the architecture has no rotary positions, or a value that cannot be.
    """
    changed = clean_config(config)
    made = transformers_config(changed)
    current = getattr(made, "rope_parameters", None)
    if not isinstance(current, dict):
        raise ConfigError(f"{changed['model_type']} has no rotary positions to change")
    for name, value in (("theta", theta), ("ntk_factor", ntk_factor)):
        if value is not None and value <= 0:
            raise ConfigError(f"{name} must be > 0, got {value}")
    changed["rope_parameters"] = _changed(current, made, theta, ntk_factor)
    for old in ("rope_theta", "rope_scaling", "global_rope_theta"):
        changed.pop(old, None)
    if max_positions is not None:
        changed["max_position_embeddings"] = max_positions
    return changed


def set_rope(backbone: TransformersBackbone, config: Mapping[str, Any]) -> None:
    """Give a live backbone the rotary positions of ``config``, and leave its weights alone.

    Args:
        backbone: the model.
        config: from ``change_rope``.
    """
    made = transformers_config(clean_config(config))
    for name, module in list(backbone.model.named_modules()):
        if any(key.endswith("inv_freq") for key, _ in module.named_buffers(recurse=False)):
            fresh: Any = type(module)
            device = next(module.buffers()).device
            _replace(backbone.model, name, fresh(config=made).to(device))
    backbone.model.config.rope_parameters = made.rope_parameters
    backbone.model.config.max_position_embeddings = made.max_position_embeddings
    backbone.config = dict(config)


def _changed(
    current: Mapping[str, Any], config: Any, theta: float | None, ntk_factor: float | None
) -> dict[str, Any]:
    if "full_attention" in current:  # ModernBERT: one set a kind of layer
        whole = _changed(current["full_attention"], config, theta, ntk_factor)
        return {**current, "full_attention": whole}
    base = float(current["rope_theta"]) if theta is None else theta
    if ntk_factor is None:
        return {**current, "rope_theta": base}
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ntk_rope(theta=base, head_size=size, scaling={"type": "ntk", "factor": ntk_factor})


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(root.get_submodule(parent) if parent else root, attribute, module)
