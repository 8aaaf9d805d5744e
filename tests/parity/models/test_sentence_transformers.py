"""Folders of ours in sentence-transformers, and the real model in both."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from opengte.models.building import build_backbone
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.heads import Dense
from opengte.models.latent_attention import LatentAttention, LatentAttentionConfig
from opengte.models.weights import load_encoder, save_encoder
from opengte.text.prompts import Prompts

sentence_transformers = pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
COUNTS = [3, 17, 1, 25, 16]
BACKBONES = ["bert", "roberta", "gte", "modernbert", "eurobert", "nomic_bert", "t5", "qwen3",
             "qwen3-bidirectional", "mistral-bidirectional", "llama"]  # fmt: skip


def encoder_of(tiny, name, tokenizer, **settings):
    config = tiny.CONFIGS[name]
    model = tiny.transformers_model(config)
    backbone = build_backbone(config, {n: v.clone() for n, v in model.state_dict().items()})
    chosen = EncoderSettings(**{"max_tokens": 30, **settings})
    return Encoder(backbone, tokenizer, chosen, compute_dtype="float32")


def theirs(folder, texts, **options):
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return model.encode(texts, **options)


def test_the_real_model_gives_the_same_vectors(minilm_folder):
    texts = [
        "A man is eating food.",
        "def merge(a, b):\n    return sorted(a + b)",
        "long " * 400,
        "東京は日本の首都です。",
        "",
        *(f"sentence number {i} of some length" + " and more" * i for i in range(8)),
    ]
    encoder = load_encoder(minilm_folder, dtype="float32")
    ours = encoder.encode(texts)
    assert np.abs(ours - theirs(minilm_folder, texts)).max() < 1e-6
    encoder.compute_dtype = "bfloat16"
    assert (encoder.encode(texts) * ours).sum(1).min() > 0.999


def test_the_real_model_written_again_is_the_same(minilm_folder, tmp_path, caplog):
    encoder = load_encoder(minilm_folder, dtype="float32")
    save_encoder(encoder, tmp_path / "m")
    texts = ["one", "two words", "three words here"]
    with caplog.at_level(logging.WARNING):
        again = theirs(tmp_path / "m", texts)
    assert np.abs(again - encoder.encode(texts)).max() < 1e-6
    assert "MISSING" not in caplog.text
    assert "UNEXPECTED" not in caplog.text


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_loads_there_with_the_same_vectors(
    tiny, name, tiny_tokenizer, words, tmp_path
):
    encoder = encoder_of(tiny, name, tiny_tokenizer)
    save_encoder(encoder, tmp_path / "m")
    texts = words(COUNTS)
    ours = encoder.encode(texts)
    assert np.abs(theirs(tmp_path / "m", texts) - ours).max() < 1e-5
    again = load_encoder(tmp_path / "m", dtype="float32")
    assert np.abs(again.encode(texts) - ours).max() < 1e-6
    assert again.space == load_encoder(tmp_path / "m").space


@pytest.mark.parametrize(
    "pooling", ["mean", "cls", "last_token", "weighted_mean", "max", "mean_sqrt_length"]
)
@pytest.mark.parametrize("include_prompt", [True, False])
def test_every_pooling_with_and_without_the_prompt(
    tiny, pooling, include_prompt, tiny_tokenizer, words, tmp_path
):
    encoder = encoder_of(
        tiny,
        "bert",
        tiny_tokenizer,
        pooling=pooling,
        include_prompt=include_prompt,
        normalise=False,
        prompts=Prompts(query="w1 w2 "),
    )
    save_encoder(encoder, tmp_path / "m")
    texts = words(COUNTS)
    expected = theirs(tmp_path / "m", texts, prompt_name="query")
    assert np.abs(expected - encoder.encode(texts, kind="query")).max() < 1e-5
    assert np.abs(theirs(tmp_path / "m", texts) - encoder.encode(texts)).max() < 1e-5


def test_dense_layers(tiny, tiny_tokenizer, words, tmp_path):
    torch.manual_seed(0)
    encoder = encoder_of(tiny, "bert", tiny_tokenizer)
    encoder.dense.extend([Dense(32, 48, activation="gelu"), Dense(48, 56, bias=False)])
    save_encoder(encoder, tmp_path / "m")
    texts = words(COUNTS)
    ours = encoder.encode(texts)
    assert ours.shape[1] == 56
    assert np.abs(theirs(tmp_path / "m", texts) - ours).max() < 1e-5


def test_folders_written_there_are_read_here(tiny, tiny_tokenizer, words, tmp_path):
    save_encoder(encoder_of(tiny, "bert", tiny_tokenizer), tmp_path / "a")
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "a"), device="cpu")
    model.prompts = {"query": "w4 ", "document": ""}
    model.save(str(tmp_path / "b"))
    texts = words(COUNTS)
    encoder = load_encoder(tmp_path / "b", dtype="float32")
    assert encoder.max_tokens == 30
    expected = model.encode(texts, prompt_name="query")
    assert np.abs(encoder.encode(texts, kind="query") - expected).max() < 1e-5


def test_what_it_cannot_express_it_refuses(tiny, tiny_tokenizer, tmp_path):
    encoder = encoder_of(tiny, "bert", tiny_tokenizer)
    sizes = LatentAttentionConfig(
        hidden_size=32, num_latents=4, num_heads=2, head_size=4, latent_size=8
    )
    encoder.latent_attention = LatentAttention(sizes)
    save_encoder(encoder, tmp_path / "m")
    with pytest.raises(Exception, match=r"opengte|LatentAttention"):
        sentence_transformers.SentenceTransformer(str(tmp_path / "m"), device="cpu")


def test_the_files_that_text_embeddings_inference_reads(tiny, tiny_tokenizer, tmp_path):
    encoder = encoder_of(tiny, "bert", tiny_tokenizer, pooling="cls", prompts=Prompts(query="w1 "))
    save_encoder(encoder, tmp_path / "m")

    def read(name):
        return json.loads((tmp_path / "m" / name).read_text())

    assert read("config.json")["model_type"] == "bert"
    pooling = read("1_Pooling/config.json")
    assert pooling["pooling_mode_cls_token"] is True
    assert pooling["pooling_mode_mean_tokens"] is False
    assert pooling["word_embedding_dimension"] == 32
    assert read("sentence_bert_config.json")["max_seq_length"] == 30
    assert read("config_sentence_transformers.json")["prompts"]["query"] == "w1 "
    assert {module["type"].rpartition(".")[2] for module in read("modules.json")} == {
        "Transformer",
        "Pooling",
        "Normalize",
    }
    from safetensors import safe_open

    with safe_open(tmp_path / "m" / "model.safetensors", framework="np") as file:
        assert "embeddings.word_embeddings.weight" in set(file.keys())
        assert "encoder.layer.0.attention.self.query.weight" in set(file.keys())


def test_what_flag_embedding_does_gives_the_same_vectors(tiny, tiny_tokenizer, words, tmp_path):
    transformers = pytest.importorskip("transformers")
    encoder = encoder_of(tiny, "bert", tiny_tokenizer, pooling="cls")
    save_encoder(encoder, tmp_path / "m")
    texts = words(COUNTS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    model = transformers.AutoModel.from_pretrained(tmp_path / "m").eval()
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=30, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs, return_dict=True).last_hidden_state
    vectors = torch.nn.functional.normalize(states[:, 0], dim=-1).numpy()
    assert np.abs(vectors - encoder.encode(texts)).max() < 1e-5
