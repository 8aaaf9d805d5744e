"""Tiny models with random weights, and tokenised texts of many lengths."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import models as tokenizer_models
from tokenizers import pre_tokenizers, processors

from opengte.models.bert import PackedBert, initialise
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.text.tokenizer import Tokenizer
from opengte.text.truncation import TokenizedText

BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "pad_token_id": 0,
}


@pytest.fixture(scope="session")
def bert_config():
    return dict(BERT)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """Sixty words w0 .. w59 between [CLS] and [SEP]."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(60))]
    ids = {word: i for i, word in enumerate(words)}
    backend = tokenizers.Tokenizer(tokenizer_models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(words[:4])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    config = {"pad_token": "[PAD]", "eos_token": "[SEP]", "tokenizer_class": "BertTokenizer"}
    files = {
        "tokenizer.json": backend.to_str().encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }
    return Tokenizer(backend, config=config, files=files)


@pytest.fixture
def tiny_bert(bert_config):
    """A backbone with weights large enough that every part matters."""
    backbone = PackedBert(bert_config)
    initialise(backbone, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return backbone


@pytest.fixture
def tiny_encoder(tiny_bert, tiny_tokenizer):
    settings = EncoderSettings(name="tiny", max_tokens=64)
    return Encoder(tiny_bert, tiny_tokenizer, settings, compute_dtype="float32")


@pytest.fixture(scope="session")
def random_texts():
    """Makes tokenised texts of given lengths, with ids from 4 to 63."""

    def make(lengths, *, seed=0, prompts=None):
        rng = np.random.default_rng(seed)
        prompts = prompts or [0] * len(lengths)
        return [
            TokenizedText(rng.integers(4, 64, length).astype(np.int32), num_prompt_tokens=prompt)
            for length, prompt in zip(lengths, prompts, strict=True)
        ]

    return make


@pytest.fixture(scope="session")
def words():
    """Makes texts of given numbers of words."""

    def make(counts, *, seed=0):
        rng = np.random.default_rng(seed)
        return [" ".join(f"w{i}" for i in rng.integers(0, 60, count)) for count in counts]

    return make
