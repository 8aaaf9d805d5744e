"""The recipe's backbone: found, changed or made from nothing, and refused where it is another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opengte.errors import ConfigError, ModelFolderError
from opengte.models.weights import load_encoder
from opengte.pipeline.backbone import prepare_backbone
from opengte.pipeline.stage_configs import BackboneConfig

QWEN = {
    "model_type": "qwen3",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


@pytest.fixture
def prepare(tmp_path, tiny_model):
    def make(seed: int = 0, **settings: Any) -> Path:
        given = {"model": str(tiny_model), "max_tokens": 32, **settings}
        return prepare_backbone(
            BackboneConfig.model_validate(given), tmp_path, seed=seed, find_model=Path
        )

    return make


def random(**settings: Any) -> dict[str, Any]:
    return {"model": "qwen", "init": "random", "shape": QWEN, **settings}


def test_a_model_that_nothing_changes_is_used_where_it_lies(prepare, tiny_model):
    assert prepare() == tiny_model


def test_a_bare_checkpoint_becomes_a_folder_that_says_how_it_pools(prepare, tiny_model, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, bare / name)
    made = load_encoder(prepare(model=str(bare)))
    assert made.settings.pooling == "mean"
    assert made.settings.normalise
    assert made.max_tokens == 32


def test_the_same_seed_draws_the_same_weights(prepare, tiny_model):
    settings = random(tokenizer=str(tiny_model), pooling="last_token")
    first = prepare(**settings)
    vectors = load_encoder(first).encode(["w1 w2"])
    assert prepare(**settings) == first
    shutil.rmtree(first)
    np.testing.assert_array_equal(load_encoder(prepare(**settings)).encode(["w1 w2"]), vectors)
    assert np.abs(load_encoder(prepare(1, **settings)).encode(["w1 w2"]) - vectors).max() > 1e-3


def test_bidirectional_attention_lets_a_word_see_what_follows(prepare, tiny_model):
    for attention, same in (("causal", True), ("bidirectional", False)):
        folder = prepare(**random(tokenizer=str(tiny_model), pooling="cls", attention=attention))
        vectors = load_encoder(folder, dtype="float32").encode(["w1 w2 w3", "w1 w9 w9"])
        assert np.allclose(vectors[0], vectors[1], atol=1e-6) == same


def test_an_encoder_cannot_be_made_causal(prepare):
    with pytest.raises(ConfigError, match="attention: causal is for decoders"):
        prepare(attention="causal")


def test_an_eos_stands_behind_every_text(prepare, tiny_model):
    folder = prepare(**random(tokenizer=str(tiny_model), append_eos=True))
    tokens = load_encoder(folder).tokenize(["w1"])[0]
    assert tokens.ids[-1] == 3
    assert (folder / "tokenizer.json").is_file()


def test_delimiters_get_tokens_of_their_own_and_tell_the_sides_apart(prepare, tiny_model):
    folder = prepare(query_delimiters=[["<q>"], ["</q>"]], document_delimiters=[["<d>"], ["</d>"]])
    encoder = load_encoder(folder)
    query, document = (encoder.tokenize(["w1"], kind=kind)[0].ids for kind in ("query", "document"))
    assert len(set(query.tolist()) | set(document.tolist())) == 5
    assert encoder.backbone.vocab_size == 127 + 4
    vectors = [encoder.encode(["w1 w2"], kind=kind) for kind in ("query", "document")]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_the_vocabulary_is_padded_and_texts_keep_their_vectors(prepare, tiny_model):
    padded = load_encoder(prepare(pad_vocabulary_to=64))
    assert padded.backbone.vocab_size == 128
    plain = load_encoder(tiny_model).encode(["w1 w2"])
    np.testing.assert_allclose(padded.encode(["w1 w2"]), plain, atol=1e-6)


def test_heads_are_drawn_by_the_seed_and_kept(prepare):
    settings = {
        "latent_attention": {"num_latents": 4, "num_heads": 2, "head_size": 8, "latent_size": 16},
        "dense": {"out_features": 48},
        "sparse_head": True,
        "matryoshka_dimensions": [16, 48],
        "prompts": {"query": "w1 "},
        "include_prompt": False,
    }
    encoder = load_encoder(prepare(**settings))
    assert encoder.dimensions == 48
    assert encoder.latent_attention is not None
    assert encoder.encode(["w2"], kind="query", dimensions=16).shape == (1, 16)
    assert encoder.encode_sparse(["w2 w3"])[0].keys() <= {9, 10}
    assert not encoder.settings.include_prompt
    other = load_encoder(prepare(7, **settings))
    assert np.abs(encoder.encode(["w2"]) - other.encode(["w2"])).max() > 1e-4


def test_matryoshka_sizes_beyond_the_embedding_are_refused(prepare):
    with pytest.raises(ConfigError, match=r"matryoshka_dimensions must be <= 32, got 64"):
        prepare(matryoshka_dimensions=[16, 64])


def test_rotary_positions_change_and_absolute_ones_cannot(prepare, tiny_model):
    folder = prepare(**random(tokenizer=str(tiny_model), rope={"theta": 500.0}))
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_parameters"]["rope_theta"] == 500.0
    with pytest.raises(ConfigError, match="bert has no rotary positions to change"):
        prepare(rope={"theta": 500.0})


def test_a_tokenizer_is_trained_with_the_words_asked_for(prepare, world):
    tokenizer = {"kind": "bpe", "vocab_size": 400, "texts": [str(world.pairs)],
                 "words": ["yes", "no"]}  # fmt: skip
    encoder = load_encoder(prepare(**random(tokenizer=tokenizer)))
    ids = encoder.tokenizer.with_delimiters((), ()).encode(["yes", "no"], max_tokens=5)
    assert [len(text) for text in ids] == [1, 1]


def test_a_model_of_another_shape_is_refused_by_key_and_both_values(prepare):
    with pytest.raises(ConfigError, match=r"shape.num_hidden_layers is 12, but .* says 2"):
        prepare(shape={"model_type": "bert", "num_hidden_layers": 12, "hidden_size": 32})


def test_nothing_is_left_where_making_it_failed(prepare, tiny_model, tmp_path):
    with pytest.raises(ModelFolderError, match="unknown architecture 'mamba'"):
        prepare(**random(tokenizer=str(tiny_model), shape={"model_type": "mamba"}))
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"init": "random"}, "init: random needs a shape with a model_type"),
        ({"init": "random", "shape": QWEN}, "init: random needs a tokenizer"),
        ({"tokenizer": "x"}, "tokenizer is for init: random"),
        ({"query_delimiters": [["a"], []]}, "query_delimiters and document_delimiters go together"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        BackboneConfig.model_validate(settings)


def test_the_global_generator_is_left_as_it_was(prepare, tiny_model):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    prepare(dense={"out_features": 8})
    prepare(**random(tokenizer=str(tiny_model)))
    assert torch.rand(1) == expected
