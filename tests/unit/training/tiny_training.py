"""A real but tiny encoder, and batches whose columns differ from step to step."""

from __future__ import annotations

import numpy as np
import tokenizers
import torch

from opengte.models.bert import PackedBert
from opengte.models.encoder import Encoder, EncoderSettings
from opengte.records import Batch
from opengte.text.tokenizer import Tokenizer

NUM_WORDS = 200
SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}


def make_tokenizer() -> Tokenizer:
    vocabulary = {**SPECIAL, **{f"w{i}": i + len(SPECIAL) for i in range(NUM_WORDS)}}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(list(SPECIAL))
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Tokenizer(backend, config={"pad_token": "[PAD]"})


def make_encoder(seed: int = 0, dropout: float = 0.0, compute_dtype: str = "float32") -> Encoder:
    torch.manual_seed(seed)
    config = {
        "model_type": "bert",
        "vocab_size": NUM_WORDS + len(SPECIAL),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    encoder = Encoder(
        PackedBert(config),
        make_tokenizer(),
        EncoderSettings(name="tiny", max_tokens=48),
        compute_dtype=compute_dtype,
    )
    encoder.dropout = (dropout, dropout)
    return encoder


class WordBatches:
    """Batch of step t from (seed, t) alone, of two sources with different columns.

    Even steps bring no hard negatives; odd ones do, ragged; every other of those brings them for
    its last row alone, so that all ranks but the last have none.
    """

    def __init__(self, *, size: int = 12, seed: int = 0, num_negatives: int = 2) -> None:
        self.size, self.seed, self.num_negatives = size, seed, num_negatives

    @property
    def fingerprint(self) -> str:
        return f"words-{self.seed}-{self.size}-{self.num_negatives}"

    def batch(self, step: int) -> Batch:
        draw = np.random.default_rng([self.seed, step])
        has_negatives = bool(step % 2) and self.num_negatives > 0
        lopsided = has_negatives and step % 4 == 3
        source = "triplets" if has_negatives else "pairs"
        queries, positives, negatives = [], [], []
        for row in range(self.size):
            topic = int(draw.integers(0, NUM_WORDS - 20))
            queries.append(_text(draw, topic, 4))
            positives.append(_text(draw, topic, 20))
            # Ragged on purpose: some rows bring none.
            count = (row + step) % (self.num_negatives + 1) if has_negatives else 0
            if lopsided:
                count = self.num_negatives if row == self.size - 1 else 0
            negatives.append(tuple(_text(draw, draw.integers(0, 180), 10) for _ in range(count)))
        return Batch(
            step=step,
            source=source,
            queries=queries,
            positives=positives,
            negatives=negatives,
            row_ids=np.arange(step * self.size, (step + 1) * self.size),
            row_sources=[source] * self.size,
        )


def _text(draw: np.random.Generator, topic: int | np.int64, longest: int) -> str:
    words = topic + draw.integers(0, 20, size=int(draw.integers(1, longest)))
    return " ".join(f"w{word}" for word in words)
