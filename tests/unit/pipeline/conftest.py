"""A tiny model and tiny pairs, and a way to run a recipe on them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from opengte.atomic import write_text
from opengte.models.bert import PackedBert, initialise
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.weights import save_encoder
from opengte.pipeline.console import Console
from opengte.pipeline.execute import execute
from opengte.pipeline.recipe import Recipe
from opengte.pipeline.runner import StageResult
from opengte.text.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no"]
NUM_WORDS = 120
BERT = {
    "model_type": "bert",
    "vocab_size": len(SPECIAL) + NUM_WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}


def make_tokenizer() -> Tokenizer:
    words = [*SPECIAL, *(f"w{i}" for i in range(NUM_WORDS))]
    ids = {word: i for i, word in enumerate(words)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(SPECIAL[:5])
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    roles = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]",
             "eos": "[SEP]"}  # fmt: skip
    config = {f"{role}_token": token for role, token in roles.items()}
    config["tokenizer_class"] = "BertTokenizer"
    files = {
        "tokenizer.json": backend.to_str().encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }
    return Tokenizer(backend, config=config, files=files)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of 32 dimensions that knows w0 .. w119."""
    backbone = PackedBert(BERT)
    initialise(backbone, seed=0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_encoder(Encoder(backbone, make_tokenizer(), EncoderSettings(max_tokens=64)), folder)
    return folder


@dataclass(frozen=True)
class World:
    """Files of a tiny world, in which w40 .. w79 are what w0 .. w39 mean.

    Attributes:
        pairs: a text and its translation, with a wrong one; told apart by learning the words.
        labelled: texts of three topics.
        sentences: pairs that say the same or something else.
        texts: of twelve words alone.
    """

    pairs: Path
    labelled: Path
    sentences: Path
    texts: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    draw = np.random.default_rng(0)

    def words(numbers: Any) -> str:
        return " ".join(f"w{i}" for i in numbers)

    pairs, labelled, sentences = [], [], []
    for number in range(120):
        asked = draw.choice(40, 5, replace=False)
        answer = f"{words(40 + draw.permutation(asked))} {words(draw.integers(80, 120, 3))}"
        wrong = words(40 + draw.choice(40, 6))
        pairs.append({"query": words(asked), "positive": answer, "negatives": [wrong]})
        topic = number % 3
        labelled.append(
            {
                "text": words(draw.integers(10 * topic, 10 * topic + 10, 6)),
                "label": f"topic_{topic}",
            }
        )
        label = "entailment" if number % 2 else "contradiction"
        other = asked if number % 2 else draw.choice(40, 5)
        sentences.append(
            {"sentence1": words(asked), "sentence2": words(draw.permutation(other)), "label": label}
        )
    texts = [{"_id": str(n), "text": words(draw.integers(0, 12, 16))} for n in range(80)]
    files = {"pairs": pairs, "labelled": labelled, "sentences": sentences, "texts": texts}
    for name, lines in files.items():
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in lines))
    return World(*(folder / f"{name}.jsonl" for name in files))


RunStages = Callable[..., dict[str, StageResult]]


@pytest.fixture(scope="session")
def run_stages(tiny_model: Path) -> RunStages:
    """Runs ``stages`` on the tiny model into a folder, and gives the stages' results."""

    def run(folder: Path, stages: dict[str, Any], **changes: Any) -> dict[str, StageResult]:
        recipe = Recipe.model_validate(
            {
                "name": "tiny",
                "backbone": {"model": str(tiny_model), "max_tokens": 32},
                "stages": stages,
                **changes,
            }
        )
        return execute(recipe, folder, console=Console(io.StringIO()))

    return run
