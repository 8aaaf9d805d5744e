"""Models that no stage could use are refused by name before the first stage runs."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from opengte.errors import ModelFolderError
from opengte.pipeline.console import Console
from opengte.pipeline.execute import execute
from opengte.pipeline.recipe import Recipe


@pytest.fixture
def copy(tiny_model, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def refusal(model: Path, world) -> str:
    """What a run says; none of its stages may have begun."""
    data = {"kind": "split", "sources": {"a": {"path": str(world.pairs)}}}
    recipe = {"name": "r", "backbone": {"model": str(model), "max_tokens": 32},
              "stages": {"data": data}}  # fmt: skip
    out = model.parent / "run"
    with pytest.raises(ModelFolderError) as error:
        execute(Recipe.model_validate(recipe), out, console=Console(io.StringIO()))
    assert not (out / "stages").exists()
    return str(error.value)


def change_json(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_truncated_safetensors_file(copy, world):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    message = refusal(copy, world)
    assert "model.safetensors" in message
    assert "cut short" in message


def test_an_unknown_architecture(copy, world):
    change_json(copy / "config.json", model_type="mamba")
    assert f"{copy}: unknown architecture 'mamba'; known: bert" in refusal(copy, world)


def test_a_pickle(copy, world):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "pytorch_model.bin" in refusal(copy, world)


def test_auto_map_in_a_config(copy, world):
    change_json(copy / "config.json", auto_map={"AutoModel": "modeling_x.XModel"})
    assert "auto_map" in refusal(copy, world)


def test_a_tokenizer_of_another_model(copy, world):
    change_json(copy / "config.json", vocab_size=100)
    assert "the tokenizer does not match the weights: it has 127 tokens" in refusal(copy, world)
