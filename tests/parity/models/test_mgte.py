"""mGTE's encoder as it was released: every weight found, the same vectors; rotary positions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from opengte.errors import ConfigError, ModelFolderError
from opengte.models.building import build_backbone, new_backbone
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.mgte import ntk_rope, rewrite_config
from opengte.models.packing import pack
from opengte.models.rope import change_rope, set_rope
from opengte.models.vocabulary import resize_vocabulary
from opengte.models.weights import load_encoder
from opengte.text.truncation import TokenizedText

RELEASED = {
    "model_type": "new",
    "architectures": ["NewModel"],
    "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "type_vocab_size": 1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_type": "layer_norm",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "position_embedding_type": "rope",
    "rope_theta": 1000.0,
    "rope_scaling": {"type": "ntk", "factor": 4.0},
    "pack_qkv": True,
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
    "logn_attention_scale": False,
    "logn_attention_clip1": False,
}


def released_weights(*, prefix="", seed=0, types=True):
    """Random weights under the names and in the shapes of the released code."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape, around=0.0):
        return torch.randn(shape, generator=generator) * 0.3 + around

    tensors = {
        "embeddings.word_embeddings.weight": random(64, 32),
        "embeddings.LayerNorm.weight": random(32, around=1.0),
        "embeddings.LayerNorm.bias": random(32),
    }
    if types:
        tensors["embeddings.token_type_embeddings.weight"] = random(1, 32)
    for i in range(2):
        tensors |= {
            f"encoder.layer.{i}.attention.qkv_proj.weight": random(96, 32),
            f"encoder.layer.{i}.attention.qkv_proj.bias": random(96),
            f"encoder.layer.{i}.attention.o_proj.weight": random(32, 32),
            f"encoder.layer.{i}.attention.o_proj.bias": random(32),
            f"encoder.layer.{i}.mlp.up_gate_proj.weight": random(96, 32),
            f"encoder.layer.{i}.mlp.down_proj.weight": random(32, 48),
            f"encoder.layer.{i}.mlp.down_proj.bias": random(32),
            f"encoder.layer.{i}.attn_ln.weight": random(32, around=1.0),
            f"encoder.layer.{i}.attn_ln.bias": random(32),
            f"encoder.layer.{i}.mlp_ln.weight": random(32, around=1.0),
            f"encoder.layer.{i}.mlp_ln.bias": random(32),
        }
    return {prefix + name: value for name, value in tensors.items()}


def inverse_frequencies(theta, size, factor=None):
    """Su 2023, eq. 6, as the released code writes it."""
    base = theta * (factor or 1.0)
    plain = [1.0 / base ** (2 * i / size) for i in range(size // 2)]
    return [f / (factor ** (2 / size) if factor else 1.0) for f in plain]


def by_hand(tensors, ids, config):
    """The released forward pass for one text, written out."""
    import torch.nn.functional as F

    size, heads = 8, 4
    factor = (config.get("rope_scaling") or {}).get("factor")
    turns = torch.tensor(inverse_frequencies(config["rope_theta"], size, factor))
    angles = torch.arange(len(ids))[:, None] * turns
    cos = torch.cat([angles.cos(), angles.cos()], -1)[:, None]
    sin = torch.cat([angles.sin(), angles.sin()], -1)[:, None]

    def norm(x, name):
        return F.layer_norm(x, (32,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-12)

    def turn(x):
        left, right = x.chunk(2, -1)
        return x * cos + torch.cat([-right, left], -1) * sin

    x = tensors["embeddings.word_embeddings.weight"][ids]
    if "embeddings.token_type_embeddings.weight" in tensors:
        x = x + tensors["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for i in range(2):
        layer = {
            name.removeprefix(f"encoder.layer.{i}."): value
            for name, value in tensors.items()
            if name.startswith(f"encoder.layer.{i}.")
        }
        qkv = F.linear(x, layer["attention.qkv_proj.weight"], layer["attention.qkv_proj.bias"])
        q, k, v = (part.unflatten(-1, (heads, size)) for part in qkv.split(32, -1))
        scores = torch.einsum("qhd,khd->hqk", turn(q), turn(k)) / math.sqrt(size)
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
        mixed = F.linear(mixed, layer["attention.o_proj.weight"], layer["attention.o_proj.bias"])
        x = norm(x + mixed, f"encoder.layer.{i}.attn_ln")
        up, gate = F.linear(x, layer["mlp.up_gate_proj.weight"]).split(48, -1)
        inner = up * F.gelu(gate)
        inner = F.linear(inner, layer["mlp.down_proj.weight"], layer["mlp.down_proj.bias"])
        x = norm(x + inner, f"encoder.layer.{i}.mlp_ln")
    return x


TEXTS = [np.array(ids) for ids in ([5, 9, 30], [7] * 11, list(range(4, 60)))]


@pytest.mark.parametrize("prefix", ["", "new."])
@pytest.mark.parametrize("scaling", [None, {"type": "ntk", "factor": 4.0}])
def test_a_released_checkpoint_loads_whole_and_computes_the_same(prefix, scaling):
    config = {**RELEASED, "rope_scaling": scaling}
    backbone = build_backbone(config, released_weights(prefix=prefix)).eval()
    packed = pack([TokenizedText(ids.astype(np.int32)) for ids in TEXTS])
    tensors = released_weights()
    expected = torch.cat([by_hand(tensors, torch.from_numpy(ids), config) for ids in TEXTS])
    with torch.no_grad():
        assert torch.allclose(backbone(packed), expected, atol=1e-5)


def test_a_checkpoint_without_token_types_loads_too():
    config = {**RELEASED, "type_vocab_size": 0}
    backbone = build_backbone(config, released_weights(types=False)).eval()
    packed = pack([TokenizedText(TEXTS[0].astype(np.int32))])
    expected = by_hand(released_weights(types=False), torch.from_numpy(TEXTS[0]), config)
    with torch.no_grad():
        assert torch.allclose(backbone(packed), expected, atol=1e-5)


def test_a_missing_or_unknown_weight_is_refused():
    tensors = released_weights()
    rest = {n: v for n, v in tensors.items() if "layer.1.attention.qkv_proj.weight" not in n}
    with pytest.raises(ModelFolderError, match=r"weights are missing: layers.1.self_attn"):
        build_backbone(RELEASED, rest)
    with pytest.raises(ModelFolderError, match="that the architecture does not have: surprise"):
        build_backbone(RELEASED, {**tensors, "surprise": torch.ones(1)})
    wrong = {**tensors, "embeddings.LayerNorm.bias": torch.ones(31)}
    with pytest.raises(ModelFolderError, match="weights of another shape"):
        build_backbone(RELEASED, wrong)


@pytest.fixture
def folder(tmp_path, tiny_tokenizer):
    tiny_tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(RELEASED))
    save_file(released_weights(), tmp_path / "model.safetensors")
    return tmp_path


def test_a_released_folder_is_read_without_its_code(folder):
    encoder = load_encoder(folder, dtype="float32", pooling="cls", normalise=True)
    ids = encoder.tokenize(["w1 w2"])[0].ids
    state = by_hand(released_weights(), torch.from_numpy(ids).long(), RELEASED)[0]
    expected = torch.nn.functional.normalize(state, dim=0).numpy()
    assert np.abs(encoder.encode(["w1 w2"])[0] - expected).max() < 1e-5
    assert encoder.sparse_head is None
    assert "auto_map" not in encoder.backbone.config


def test_its_token_classifier_is_the_sparse_head(folder):
    config = {**RELEASED, "architectures": ["NewForTokenClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    head = {"classifier.weight": torch.randn(1, 32), "classifier.bias": torch.ones(1)}
    save_file({**released_weights(prefix="new."), **head}, folder / "model.safetensors")
    encoder = load_encoder(folder, dtype="float32")
    (found,) = encoder.encode_sparse(["w1 w2 w1"])
    ids = encoder.tokenize(["w1 w2 w1"])[0].ids
    states = by_hand(released_weights(), torch.from_numpy(ids).long(), RELEASED)
    weights = torch.relu(states @ head["classifier.weight"][0] + 1.0).tolist()
    expected = {
        5: max(weights[1], weights[3]),
        6: weights[2],
    }
    assert found == pytest.approx({t: w for t, w in expected.items() if w > 0}, abs=1e-5)
    assert 2 not in found


@pytest.mark.parametrize(
    "change",
    [
        {"position_embedding_type": "absolute"},
        {"logn_attention_scale": True},
        {"layer_norm_type": "rms_norm"},
        {"rope_scaling": {"type": "yarn", "factor": 2.0}},
        {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.625}},
    ],
)
def test_options_of_no_released_checkpoint_are_refused(change):
    with pytest.raises(ModelFolderError, match="is not known; only"):
        rewrite_config({**RELEASED, **change})


# -- rotary positions ---------------------------------------------------------------------------

ROTARY = ["gte", "nomic_bert", "eurobert", "qwen3", "llama", "modernbert"]


def frequencies(backbone):
    return [
        value for name, value in backbone.model.named_buffers()
        if name.endswith("inv_freq") and "original" not in name and "sliding" not in name
    ]  # fmt: skip


@pytest.mark.parametrize("name", ROTARY)
def test_another_base_is_that_of_a_model_built_with_it(tiny, name):
    config = change_rope(tiny.CONFIGS[name], theta=5000.0)
    backbone = new_backbone(tiny.CONFIGS[name], seed=0).eval()
    before = {n: p.clone() for n, p in backbone.named_parameters()}
    set_rope(backbone, config)
    expected = torch.tensor(inverse_frequencies(5000.0, 8))
    (found,) = frequencies(backbone)
    assert torch.allclose(found, expected)
    for n, p in backbone.named_parameters():
        assert torch.equal(p, before[n])
    state = {n: v.clone() for n, v in backbone.model.state_dict().items()}
    fresh = build_backbone(backbone.config, state).eval()
    packed = pack([TokenizedText(ids.astype(np.int32)) for ids in TEXTS])
    with torch.no_grad():
        assert torch.allclose(backbone(packed), fresh(packed), atol=1e-6)


@pytest.mark.parametrize("name", ROTARY)
def test_ntk_scaling_turns_the_slowest_so_many_times_slower(tiny, name):
    base = change_rope(tiny.CONFIGS[name], theta=1000.0)
    config = change_rope(base, ntk_factor=8.0, max_positions=512)
    backbone = new_backbone(config, seed=0)
    (found,) = frequencies(backbone)
    assert torch.allclose(found, torch.tensor(inverse_frequencies(1000.0, 8, 8.0)), rtol=1e-5)
    plain = inverse_frequencies(1000.0, 8)
    assert plain[-1] / found[-1].item() == pytest.approx(8.0, rel=1e-4)
    assert backbone.num_positions == 512


def test_local_attention_of_modernbert_keeps_its_base(tiny):
    config = change_rope(tiny.CONFIGS["modernbert"], theta=5000.0)
    assert config["rope_parameters"]["sliding_attention"]["rope_theta"] == 10_000.0
    assert config["rope_parameters"]["full_attention"]["rope_theta"] == 5000.0


def test_ntk_without_scaling_is_the_plain_base():
    assert ntk_rope(theta=10.0, head_size=8) == {"rope_type": "default", "rope_theta": 10.0}


def test_learned_positions_cannot_turn(tiny):
    with pytest.raises(ConfigError, match="bert has no rotary positions to change"):
        change_rope(tiny.CONFIGS["bert"], theta=1.0)
    with pytest.raises(ConfigError, match="theta must be > 0, got -1"):
        change_rope(tiny.CONFIGS["gte"], theta=-1)


@pytest.mark.parametrize("name", ["gte", "qwen3", "modernbert", "t5"])
def test_a_padded_vocabulary_changes_no_vector(tiny, name, tiny_tokenizer, words):
    encoder = encoder_of(tiny, name, tiny_tokenizer)
    before = encoder.encode(words([3, 9]))
    assert resize_vocabulary(encoder.backbone, 65) == 128
    assert np.allclose(encoder.encode(words([3, 9])), before, atol=1e-6)
    assert encoder.backbone.vocab_size == 128


def encoder_of(tiny, name, tokenizer):
    settings = EncoderSettings(max_tokens=40)
    return Encoder(new_backbone(tiny.CONFIGS[name], seed=0), tokenizer, settings,
                   compute_dtype="float32")  # fmt: skip
