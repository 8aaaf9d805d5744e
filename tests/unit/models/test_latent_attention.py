from __future__ import annotations

import math

import pytest
import torch

from opengte.errors import ConfigError, ModelFolderError
from opengte.models.building import new_backbone
from opengte.models.latent_attention import RELEASED_NAMES, LatentAttention, LatentAttentionConfig
from opengte.models.nv_embed import split_released

SIZES = LatentAttentionConfig(
    hidden_size=8, num_latents=5, num_heads=2, head_size=3, latent_size=6, feed_forward_multiple=2
)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    made = LatentAttention(SIZES)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


def layer_norm(x, module):
    mean, variance = x.mean(), x.var(unbiased=False)
    return (x - mean) / math.sqrt(variance + module.eps) * module.weight + module.bias


def gelu(x):
    return torch.tensor([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()])


def slow(layer, states):
    """Token by token and head by head, as the paper and the released code say."""
    latents = torch.stack([layer_norm(row, layer.latent_norm) for row in layer.latents])
    key_value = latents @ layer.to_key_value.weight.T
    keys, values = key_value[:, :6], key_value[:, 6:]
    rows = []
    for state in states:
        query = layer.to_query.weight @ layer_norm(state, layer.query_norm)
        heads = []
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            scores = torch.stack([query[part] @ key[part] / math.sqrt(3) for key in keys])
            weights = torch.exp(scores) / torch.exp(scores).sum()
            heads.append(sum(w * v[part] for w, v in zip(weights, values, strict=True)))
        state = state + layer.to_output.weight @ torch.cat(heads)
        inner = layer.feed_in.weight @ layer_norm(state, layer.feed_norm) + layer.feed_in.bias
        gated = inner[:16] * gelu(inner[16:])
        rows.append(state + layer.feed_out.weight @ gated + layer.feed_out.bias)
    return torch.stack(rows)


def test_equals_slow_loops(layer):
    states = torch.randn(4, 8)
    with torch.no_grad():
        assert torch.allclose(layer(states), slow(layer, states), atol=1e-5)


def test_every_latent_learns(layer):
    layer(torch.randn(4, 8)).square().sum().backward()
    assert (layer.latents.grad.abs().sum(1) > 0).all()


def test_bfloat16_states_stay_so(layer):
    states = torch.randn(4, 8)
    narrow = layer(states.bfloat16())
    assert narrow.dtype == torch.bfloat16
    close = torch.cosine_similarity(narrow.float(), layer(states), dim=1)
    assert close.min() > 0.999


def test_paper_sizes_are_the_default():
    sizes = LatentAttentionConfig(hidden_size=4096)
    assert (sizes.num_latents, sizes.num_heads, sizes.head_size) == (512, 8, 4096)


def test_a_size_below_one_is_refused():
    with pytest.raises(ConfigError, match="num_latents must be >= 1, got 0"):
        LatentAttentionConfig(hidden_size=8, num_latents=0)


MISTRAL = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "intermediate_size": 24, "vocab_size": 20, "max_position_embeddings": 32,
    "model_type": "bidir_mistral",
}  # fmt: skip
RELEASED = {
    "model_type": "nvembed",
    "text_config": MISTRAL,
    "latent_attention_config": {
        "hidden_dim": 16, "num_latents_value": 5, "num_cross_heads": 2, "cross_dim_head": 4,
        "latent_dim": 16,
    },
}  # fmt: skip


@pytest.fixture
def released():
    """The weights of a tiny NV-Embed under their released names."""
    torch.manual_seed(0)
    config = {**MISTRAL, "model_type": "mistral", "is_causal": False}
    backbone = new_backbone(config, seed=0)
    state = backbone.to_checkpoint(backbone.state_dict())
    tensors = {f"embedding_model.{name}": value for name, value in state.items()}
    latent = LatentAttention(
        LatentAttentionConfig(
            hidden_size=16, num_latents=5, num_heads=2, head_size=4, latent_size=16
        )
    )
    for name, value in latent.state_dict().items():
        part, dot, kind = name.partition(".")
        tensors[f"latent_attention_model.{RELEASED_NAMES[part]}{dot}{kind}"] = value
    return tensors, latent


def test_a_released_checkpoint_comes_apart_without_a_rest(released):
    tensors, latent = released
    config, backbone, layer = split_released(RELEASED, tensors)
    assert config["model_type"] == "mistral"
    assert config["is_causal"] is False
    assert all(not name.startswith("embedding_model") for name in backbone)
    for name, value in latent.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value)


def test_weights_missing_or_unknown_are_named(released):
    tensors, _ = released
    rest = {
        n: v for n, v in tensors.items() if not n.endswith("cross_attend_blocks.0.fn.to_q.weight")
    }
    with pytest.raises(ModelFolderError, match=r"latent attention: cross_attend_blocks.0.fn.to_q"):
        split_released(RELEASED, rest)
    with pytest.raises(ModelFolderError, match=r"does not have: y, latent_attention_model\.x"):
        extra = {"y": torch.ones(1), "latent_attention_model.x": torch.ones(1)}
        split_released(RELEASED, {**tensors, **extra})
