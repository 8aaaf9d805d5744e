from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from opengte.errors import ConfigError, ModelFolderError
from opengte.model_folder import ModelFolder
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.heads import Dense
from opengte.models.latent_attention import LatentAttention, LatentAttentionConfig
from opengte.models.lora import LoraSettings, add_lora
from opengte.models.sparse import SparseHead
from opengte.models.weights import load_encoder, save_encoder
from opengte.text.prompts import Prompts

SETTINGS = EncoderSettings(
    name="m",
    pooling="weighted_mean",
    include_prompt=False,
    normalise=True,
    max_tokens=40,
    prompts=Prompts("w1 ", "w2 ", {"sts": "w3 "}),
    matryoshka_dimensions=(4, 8),
)


@pytest.fixture
def full(tiny_bert, tiny_tokenizer):
    """An encoder that has everything a folder can hold."""
    torch.manual_seed(0)
    latent = LatentAttentionConfig(hidden_size=32, num_latents=6, num_heads=2, head_size=8,
                                   latent_size=12, feed_forward_multiple=2)  # fmt: skip
    return Encoder(
        tiny_bert,
        tiny_tokenizer,
        SETTINGS,
        latent_attention=LatentAttention(latent),
        sparse_head=SparseHead(32, ignored_ids=(2, 3)),
        dense=[Dense(32, 16, activation="tanh"), Dense(16, 10, bias=False)],
        compute_dtype="float32",
    )


def test_a_written_folder_gives_back_the_same_encoder(full, tmp_path, words):
    texts = words([3, 17, 60])
    save_encoder(full, tmp_path / "m")
    again = load_encoder(tmp_path / "m", dtype="float32")
    assert again.settings == SETTINGS
    for kind in (None, "query", "document"):
        assert np.allclose(again.encode(texts, kind=kind), full.encode(texts, kind=kind), atol=1e-6)
    assert again.encode_sparse(texts) == full.encode_sparse(texts)
    assert again.space == full.space == ModelFolder.read(tmp_path / "m").space()


def test_a_second_copy_is_the_same_to_the_byte(full, tmp_path):
    save_encoder(full, tmp_path / "a")
    save_encoder(load_encoder(tmp_path / "a"), tmp_path / "b")
    files = sorted(
        f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*") if f.is_file()
    )
    assert files == sorted(
        f.relative_to(tmp_path / "b") for f in (tmp_path / "b").rglob("*") if f.is_file()
    )
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_an_older_folder_is_replaced_whole(tiny_encoder, full, tmp_path):
    save_encoder(full, tmp_path / "m")
    save_encoder(tiny_encoder, tmp_path / "m")
    again = load_encoder(tmp_path / "m")
    assert again.latent_attention is None
    assert not list((tmp_path / "m").glob("sparse*"))
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_delimiters_travel(tiny_bert, tiny_tokenizer, tmp_path):
    settings = EncoderSettings(
        max_tokens=20, query_delimiters=((4,), (5,)), document_delimiters=((6,), (7, 8))
    )
    save_encoder(Encoder(tiny_bert, tiny_tokenizer, settings), tmp_path / "m")
    again = load_encoder(tmp_path / "m").settings
    assert again.query_delimiters == ((4,), (5,))
    assert again.document_delimiters == ((6,), (7, 8))


def test_options_override_the_folder(tiny_encoder, tmp_path):
    save_encoder(tiny_encoder, tmp_path / "m")
    encoder = load_encoder(tmp_path / "m", max_tokens=80, dropout=0.3, dtype="bfloat16")
    assert (encoder.max_tokens, encoder.dropout, encoder.compute_dtype) == (
        80,
        (0.3, 0.3),
        "bfloat16",
    )
    assert encoder.space.revision == tiny_encoder.space.revision


def test_bfloat16_weights_halve_memory_and_compute(tiny_encoder, tmp_path, words):
    save_encoder(tiny_encoder, tmp_path / "m")
    encoder = load_encoder(tmp_path / "m", weight_dtype="bfloat16", dtype="bfloat16")
    assert {p.dtype for p in encoder.parameters()} == {torch.bfloat16}
    texts = words([5, 20])
    assert (encoder.encode(texts) * tiny_encoder.encode(texts)).sum(1).min() > 0.99
    with pytest.raises(ModelFolderError, match="weight_dtype must be one of float32, bfloat16"):
        load_encoder(tmp_path / "m", weight_dtype="int8")


def test_half_precision_checkpoints_become_float32(tiny_encoder, tmp_path):
    save_encoder(tiny_encoder, tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    save_file({n: v.half() for n, v in load_file(file).items()}, file)
    (tmp_path / "m" / "opengte.json").unlink()
    assert {p.dtype for p in load_encoder(tmp_path / "m").parameters()} == {torch.float32}


def test_our_bert_and_transformers_give_the_same_vectors(tiny_encoder, tmp_path, words):
    save_encoder(tiny_encoder, tmp_path / "m")
    theirs = load_encoder(tmp_path / "m", dtype="float32", through_transformers=True)
    assert type(theirs.backbone).__name__ == "TransformersBackbone"
    texts = words([3, 30, 11])
    assert np.allclose(theirs.encode(texts), tiny_encoder.encode(texts), atol=1e-5)


# -- refusals -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tiny_encoder, tmp_path):
    save_encoder(tiny_encoder, tmp_path / "m")
    (tmp_path / "m" / "opengte.json").unlink()
    return tmp_path / "m"


def refused(folder, match, error=ModelFolderError):
    with pytest.raises(error, match=match):
        load_encoder(folder)


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def set_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_an_altered_weight_file(tiny_encoder, tmp_path):
    save_encoder(tiny_encoder, tmp_path / "m")
    rewrite(tmp_path / "m", lambda tensors: next(iter(tensors.values())).add_(1))
    refused(tmp_path / "m", r"model.safetensors: altered since it was written")


def test_a_missing_weight_names_the_folder(folder):
    rewrite(folder, lambda tensors: tensors.pop("embeddings.LayerNorm.bias"))
    refused(folder, r"/m: weights are missing: embeddings.LayerNorm.bias")


def test_an_unknown_weight(folder):
    rewrite(folder, lambda tensors: tensors.update(surprise=torch.ones(1)))
    refused(folder, r"/m: weights that the architecture does not have: surprise")


def test_a_weight_of_another_shape(folder):
    set_config(folder, intermediate_size=47)
    refused(folder, r"/m: weight layers.0.feed_forward.up.weight has shape")


def test_an_unknown_architecture(folder):
    set_config(folder, model_type="mamba")
    refused(folder, r"/m: unknown architecture 'mamba'; known: bert, roberta")


def test_a_tokenizer_that_does_not_match(folder):
    set_config(folder, vocab_size=60)
    rewrite(
        folder,
        lambda t: t.update({"embeddings.word_embeddings.weight": torch.zeros(60, 32)}),
    )
    refused(folder, "the tokenizer does not match the weights: it has 64 tokens", ConfigError)


def test_a_folder_without_torch_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.onnx").write_bytes(b"x")
    refused(folder, "has no safetensors weights; open it with its runtime")


def test_a_dense_layer_without_a_bias_is_read_as_such(full, tmp_path):
    save_encoder(full, tmp_path / "m")
    (tmp_path / "m" / "opengte.json").unlink()
    save_file({"linear.weight": torch.zeros(16, 32)}, tmp_path / "m/3_Dense/model.safetensors")
    encoder = load_encoder(tmp_path / "m")
    assert encoder.dense[0].linear.bias is None


def test_latent_attention_that_does_not_fit(full, tmp_path):
    save_encoder(full, tmp_path / "m")
    (tmp_path / "m" / "opengte.json").unlink()
    file = tmp_path / "m/1_LatentAttention/model.safetensors"
    save_file({**load_file(file), "latents": torch.zeros(5, 12)}, file)
    refused(tmp_path / "m", r"weight latents has shape \(5, 12\), config.json asks for \(6, 12\)")


def test_adapters_must_be_merged_before_saving(tiny_encoder, tmp_path):
    add_lora(tiny_encoder, LoraSettings(rank=2))
    with pytest.raises(ConfigError, match="still has adapters; merge them first with merge_lora"):
        save_encoder(tiny_encoder, tmp_path / "m")
    assert not (tmp_path / "m").exists()
