"""mGTE's encoder as it was released (``model_type: "new"``) -> as transformers has it (``gte``).

transformers' own loader, given such a folder, raises; told to use ``GteModel``, it loads nothing
and only warns. The weights need no work here: transformers renames and splits those of ``gte``.
What does is the config: names, and fixed NTK scaling of rotary positions, which transformers
does not have under a name of its own.

Sources: mGTE (Zhang et al. 2024, 2.1 and App. B), Su 2023 (https://kexue.fm/archives/9706, eq. 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opengte.errors import ModelFolderError

UNUSED_KEYS = (
    "layer_norm_type",
    "logn_attention_clip1",
    "logn_attention_scale",
    "pack_qkv",
    "position_embedding_type",
    "rope_scaling",
    "rope_theta",
    "unpad_inputs",
    "use_memory_efficient_attention",
)


def rewrite_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A released config -> one of ``GteConfig`` that computes the same.

    Raises:
        ModelFolderError: it uses an option that no released checkpoint does.
    """
    expected = {
        "position_embedding_type": "rope",
        "layer_norm_type": "layer_norm",
        "logn_attention_scale": False,
        "pack_qkv": True,
    }
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise ModelFolderError(
                f"mGTE with {name} {config[name]!r} is not known; only {value!r}"
            )
    kept = {name: value for name, value in config.items() if name not in UNUSED_KEYS}
    head_size = int(config["hidden_size"]) // int(config["num_attention_heads"])
    kept["rope_parameters"] = ntk_rope(
        theta=float(config.get("rope_theta", 10_000.0)),
        head_size=head_size,
        scaling=config.get("rope_scaling"),
    )
    kept["model_type"] = "gte"
    kept["architectures"] = ["GteModel"]
    return kept


def ntk_rope(
    *, theta: float, head_size: int, scaling: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Rotary positions with fixed NTK scaling, said in words that transformers knows.

    NTK scaling by a factor k uses the base ``theta * k`` and divides every frequency by
    ``k ** (2 / D)``: the slowest turns k times slower, the fastest almost as before. That is
    linear scaling on top of a larger base.

    Args:
        theta: the base that was trained with.
        head_size: D.
        scaling: ``{"type": "ntk", "factor": k}`` as released, or None.

    Raises:
        ModelFolderError: another kind of scaling, or its mixed form.
    """
    if not scaling:
        return {"rope_type": "default", "rope_theta": theta}
    kind = scaling.get("type", scaling.get("rope_type"))
    if kind != "ntk" or scaling.get("mixed_b") is not None:
        raise ModelFolderError(f"rope_scaling {dict(scaling)} is not known; only fixed 'ntk' is")
    factor = float(scaling["factor"])
    return {
        "rope_type": "linear",
        "rope_theta": theta * factor,
        "factor": factor ** (2.0 / head_size),
    }
