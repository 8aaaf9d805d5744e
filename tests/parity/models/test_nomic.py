"""NomicBERT as it was released: every weight found, the sizes its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opengte.errors import ModelFolderError
from opengte.models.building import build_backbone
from opengte.models.nomic import rewrite_config
from opengte.models.packing import pack
from opengte.text.truncation import TokenizedText

RELEASED = {
    "model_type": "nomic_bert",
    "activation_function": "swiglu",
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "attn_pdrop": 0.0,
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 48,
    "mlp_fc1_bias": False,
    "n_embd": 32,
    "n_head": 4,
    "n_inner": 48,
    "n_layer": 2,
    "n_positions": 96,
    "prenorm": False,
    "qkv_proj_bias": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 500,
    "rotary_emb_fraction": 1.0,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 64,
}


def released_names(tensors):
    """The weights of transformers' model under their released names."""
    result = {}
    for name, value in tensors.items():
        if ".self_attn." in name:
            continue
        for new, old in (
            ("embeddings.LayerNorm", "emb_ln"),
            ("post_attention_layernorm", "norm1"),
            ("post_mlp_layernorm", "norm2"),
            ("up_proj", "fc11"),
            ("gate_proj", "fc12"),
            ("down_proj", "fc2"),
        ):
            name = name.replace(new, old)
        result[f"encoder.{name}" if name.startswith("layers.") else name] = value
    for i in range(2):
        part = f"layers.{i}.self_attn."
        qkv = [tensors[f"{part}{x}_proj.weight"] for x in "qkv"]
        result[f"encoder.layers.{i}.attn.Wqkv.weight"] = torch.cat(qkv)
        result[f"encoder.layers.{i}.attn.out_proj.weight"] = tensors[f"{part}o_proj.weight"]
    return result


def test_a_released_checkpoint_loads_whole_and_computes_the_same(tiny):
    config = rewrite_config({n: v for n, v in RELEASED.items() if n != "auto_map"})
    theirs = tiny.transformers_model(config)
    tensors = {name: value.clone() for name, value in theirs.state_dict().items()}
    backbone = build_backbone(RELEASED, released_names(tensors)).eval()
    assert backbone.num_positions == 96
    ids = np.arange(4, 40, dtype=np.int32)
    with torch.no_grad():
        expected = theirs(input_ids=torch.from_numpy(ids).long()[None]).last_hidden_state[0]
        assert torch.allclose(backbone(pack([TokenizedText(ids)])), expected, atol=1e-5)


def test_scaled_positions_end_at_the_trained_length():
    assert rewrite_config({**RELEASED, "rotary_scaling_factor": 2})["max_position_embeddings"] == 48


@pytest.mark.parametrize("change", [{"prenorm": True}, {"rotary_emb_fraction": 0.5}])
def test_options_of_no_released_checkpoint_are_refused(change):
    with pytest.raises(ModelFolderError, match=r"NomicBERT with .* is not known; only"):
        rewrite_config({**RELEASED, **change})
