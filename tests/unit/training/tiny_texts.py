"""A tokenizer of a hundred words, and texts of many lengths, for objectives without pairs."""

from __future__ import annotations

import numpy as np
import tokenizers

from opengte.records import Batch
from opengte.text.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(100))]


def make_tokenizer(**roles: str) -> Tokenizer:
    ids = {word: i for i, word in enumerate(WORDS)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(WORDS[:5])
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    known = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]",
             "mask_token": "[MASK]"}  # fmt: skip
    return Tokenizer(backend, config={**known, **roles})


def batch(texts: list[str], step: int = 3) -> Batch:
    return Batch(
        step=step,
        source="s",
        queries=texts,
        positives=[""] * len(texts),
        negatives=[()] * len(texts),
        row_ids=np.arange(len(texts)),
        row_sources=["s"] * len(texts),
    )


TEXTS = [" ".join(f"w{(7 * n + i) % 100}" for i in range(5 + 3 * n)) for n in range(12)]
