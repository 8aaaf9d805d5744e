"""Tiny tokenizers and encoders of every backbone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models as tokenizer_models
from tokenizers import pre_tokenizers, processors

from opengte.text.tokenizer import Tokenizer

_spec = importlib.util.spec_from_file_location(
    "tiny_checkpoints", Path(__file__).with_name("tiny_checkpoints.py")
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def tiny():
    """The module of tiny configs and slow references."""
    return _module


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """Sixty words w0 .. w59 between [CLS] and [SEP]; pairs as BERT has them."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(60))]
    ids = {word: i for i, word in enumerate(words)}
    backend = tokenizers.Tokenizer(tokenizer_models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(words[:4])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "eos_token": "[SEP]",
    }
    files = {
        "tokenizer.json": backend.to_str().encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }
    return Tokenizer(backend, config=config, files=files)


@pytest.fixture(scope="session")
def words():
    """Makes texts of given numbers of words."""

    def make(counts, *, seed=0):
        rng = np.random.default_rng(seed)
        return [" ".join(f"w{i}" for i in rng.integers(0, 60, count)) for count in counts]

    return make
