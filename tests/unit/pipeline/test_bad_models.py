"""Models that no stage could use are refused by name before the first stage runs."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import yaml

from opengte.cli.main import run
from opengte.errors import ModelFolderError
from opengte.loading import load
from opengte.models.heads import Dense
from opengte.models.weights import load_encoder, save_encoder
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


def test_a_distillation_teacher_of_another_dimension(tiny_model, world, tmp_path, capsys):
    encoder = load_encoder(tiny_model)
    encoder.dense.append(Dense(encoder.dimensions, 16, bias=False))
    save_encoder(encoder, tmp_path / "teacher")
    stage = {"kind": "distill", "model": "base", "teacher": {"model": str(tmp_path / "teacher")},
             "sources": {"a": {"path": str(world.pairs)}}, "mixture": {"batch_size": 8},
             "training": {"num_steps": 1, "precision": "float32"}, "project": False}  # fmt: skip
    recipe = {"name": "r", "backbone": {"model": str(tiny_model), "max_tokens": 32},
              "stages": {"copied": stage}}  # fmt: skip
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    arguments = ["run", str(file), "--out", str(tmp_path / "out"), "--quiet"]
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: stages.copied.project is false, but the teacher's embeddings have 16 values and "
        "the student's 32"
    )
    assert run([*arguments, "--set", "stages.copied.project=true"]) == 0
    assert load(tmp_path / "out/stages/copied/output").space.dimensions == 16
