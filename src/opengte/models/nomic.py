"""NomicBERT as it was released, with GPT-2's words for its sizes -> as transformers has it.

transformers would read such a config with its defaults, which happen to fit the base size alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opengte.errors import ModelFolderError

RENAMED = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "resid_pdrop": "hidden_dropout_prob",
    "attn_pdrop": "attention_probs_dropout_prob",
}
KEPT = ("vocab_size", "type_vocab_size", "initializer_range", "pad_token_id")
EXPECTED = {
    "activation_function": "swiglu",
    "causal": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "use_rms_norm": False,
}


def is_released_form(config: Mapping[str, Any]) -> bool:
    """Whether a config of type ``nomic_bert`` uses the released words."""
    return "n_embd" in config


def rewrite_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A released config -> one of ``NomicBertConfig`` that computes the same.

    Dynamic NTK scaling beyond the trained length depends on the longest text of a batch: it is
    left out, and texts end at the trained length.

    Raises:
        ModelFolderError: it uses an option that no released checkpoint does.
    """
    for name, value in EXPECTED.items():
        if config.get(name, value) not in (value, None):
            raise ModelFolderError(
                f"NomicBERT with {name} {config[name]!r} is not known; only {value!r}"
            )
    made = {new: config[old] for old, new in RENAMED.items() if old in config}
    made.update({name: config[name] for name in KEPT if name in config})
    if config.get("rotary_scaling_factor"):
        made["max_position_embeddings"] = config["max_trained_positions"]
    theta = float(config.get("rotary_emb_base", 10_000.0))
    made["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    return {
        **made,
        "model_type": "nomic_bert",
        "architectures": ["NomicBertModel"],
        "hidden_act": "silu",
    }
