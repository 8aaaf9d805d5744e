"""A tiny BERT with random weights and a real WordPiece tokenizer: every part, in milliseconds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from opengte.export.check_texts import CHECK_TEXTS
from opengte.models.bert import PackedBert
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.heads import Dense
from opengte.text.tokenizer import Tokenizer

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")


def make_tokenizer() -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=list(SPECIAL), show_progress=False
    )
    backend.train_from_iterator(CHECK_TEXTS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return Tokenizer(backend, config={"pad_token": "<pad>", "unk_token": "<unk>"})


@pytest.fixture(scope="session")
def make_tiny_encoder() -> Callable[..., Encoder]:
    def make(*, model_type: str = "bert", dense: tuple[int, ...] = (), **settings: Any) -> Encoder:
        tokenizer = make_tokenizer()
        config = {
            "model_type": model_type,
            "architectures": ["BertModel" if model_type == "bert" else "RobertaModel"],
            "vocab_size": tokenizer.vocab_size,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "hidden_act": "gelu",
            "max_position_embeddings": 66,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
        }
        torch.manual_seed(7)
        backbone = PackedBert(config)
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        sizes = (32, *dense)
        layers = [
            Dense(a, b, activation="tanh" if i else "gelu")
            for i, (a, b) in enumerate(itertools.pairwise(sizes))
        ]
        settings = {"max_tokens": 48, "name": "tiny", **settings}
        return Encoder(
            backbone,
            tokenizer,
            EncoderSettings(**settings),
            dense=layers,
            compute_dtype="float32",
        )

    return make
