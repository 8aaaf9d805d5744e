"""``gte run`` and then ``gte evaluate``: a model's own folder says what is not zero-shot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opengte.cli.main import run
from opengte.evaluation.training_manifest import TrainingManifest, dataset_name
from opengte.models.weights import load_encoder, save_encoder
from opengte.pipeline import trained_on
from opengte.records import Pair

FILES = ("training_manifest.json", "training_pairs.npy", "training_texts.npy")
TRAINING = {"num_steps": 1, "precision": "float32"}


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def sentences(number: int, words: str) -> list[dict[str, Any]]:
    """Graded pairs, of which no two sets share one."""
    return [
        {"sentence1": f"{words} number {n} of them", "sentence2": f"{words} {n}", "score": n % 5}
        for n in range(number)
    ]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, world) -> dict[str, Path]:
    """Three evaluation sets: one that the pairs hold, one of their train split, a foreign one."""
    folder = tmp_path_factory.mktemp("sets")
    pairs = [json.loads(line) for line in world.pairs.read_text().splitlines()[:12]]
    held = [
        {"sentence1": pair["query"], "sentence2": pair["positive"], "score": n % 3}
        for n, pair in enumerate(pairs)
    ]
    write_rows(folder / "held" / "test.jsonl", held)
    write_rows(folder / "tides" / "test.jsonl", sentences(12, "w3 w4"))
    write_rows(folder / "foreign" / "test.jsonl", sentences(12, "w5 w6"))
    rows = [{"query": f"w{n} w{n + 1}", "positive": f"w{n + 40} w{n + 41}"} for n in range(24)]
    write_rows(folder / "tides" / "train.jsonl", rows)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_model, world, sets) -> Path:
    """Trained on one source, then on another, then merged with where it began."""
    loss = {"kind": "info_nce", "temperature": 0.1}
    learn = {"kind": "contrastive", "loss": loss, "mixture": {"batch_size": 8},
             "training": TRAINING}  # fmt: skip
    tides = {"tidal": {"path": str(sets["tides"] / "train.jsonl")}}
    stages = {
        "first": {**learn, "model": "base", "sources": {"waves": {"path": str(world.pairs)}}},
        "second": {**learn, "model": "first", "sources": tides},
        "merged": {"kind": "merge", "method": "linear", "models": ["base", "second"],
                   "output": "model"},
        "measured": {"kind": "evaluate", "model": "merged",
                     "tasks": [str(path) for path in sets.values()]},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    backbone = {"model": str(tiny_model), "max_tokens": 32}
    recipe = {"name": "two-sources", "backbone": backbone, "stages": stages}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    assert run(["run", str(folder / "recipe.yaml"), "--out", str(folder / "out")]) == 0
    return folder / "out" / "model"


def evaluate(model: Path, sets: dict[str, Path], file: Path) -> dict[str, Any]:
    tasks = [part for path in sets.values() for part in ("--task", str(path))]
    assert run(["evaluate", str(model), *tasks, "--quiet", "--json", str(file)]) == 0
    return json.loads(file.read_text())


def marks(results: dict[str, Any]) -> dict[str, str | None]:
    return {name: task.get("mark") for name, task in results["tasks"].items()}


def test_a_model_that_was_run_is_marked_without_an_option(
    model, sets, tiny_model, tmp_path, capsys
):
    found = evaluate(model, sets, tmp_path / "numbers.json")
    assert marks(found) == {
        "held": "leaked",  # its pairs stand in the first stage's source
        "tides": "in-domain train",  # its own train split was the second stage's source
        "foreign": "zero-shot",
    }
    assert found["unknown_starts"] == [tiny_model.name]
    printed = capsys.readouterr().out
    assert "mean over 1 tasks" in printed
    assert f"zero-shot as far as is known: what {tiny_model.name} had been trained on" in printed


def test_the_run_s_own_evaluate_stage_marks_the_same(model, sets, tmp_path):
    results = json.loads((model.parent / "stages/measured/output/results.json").read_text())
    assert marks(results) == marks(evaluate(model, sets, tmp_path / "numbers.json"))


def test_without_its_manifest_nothing_is_marked(model, sets, tmp_path, capsys):
    bare = shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns(*FILES))
    found = evaluate(bare, sets, tmp_path / "numbers.json")
    assert set(marks(found).values()) == {None}
    assert "unknown_starts" not in found
    assert "zero-shot" not in capsys.readouterr().out


def test_a_start_model_s_manifest_is_carried_over(model, tiny_model, run_stages, tmp_path, world):
    known = shutil.copytree(tiny_model, tmp_path / "known")
    TrainingManifest.from_pairs([Pair("w1 w2", "w41 w42")], datasets=["earlier"]).save(known)
    learn = {"kind": "contrastive", "model": "base", "mixture": {"batch_size": 8},
             "sources": {"waves": {"path": str(world.pairs)}}, "training": TRAINING}  # fmt: skip
    backbone = {"model": str(known), "max_tokens": 32, "pooling": "cls"}  # a changed copy
    ran = run_stages(tmp_path / "run", {"learned": learn}, backbone=backbone)
    manifest = TrainingManifest.load(ran["learned"].output)
    assert manifest.datasets == {"earlier", "waves", "pairs"}
    assert manifest.unknown_starts == frozenset()
    assert manifest.has_pairs([("w1 w2", "w41 w42")]).all()


def test_merged_models_say_what_any_of_them_learned(model, tiny_model, tmp_path, capsys):
    both = TrainingManifest.load(model)
    assert both.datasets == {"waves", "pairs", "tidal", "tides"}
    other = tmp_path / "other"
    save_encoder(load_encoder(tiny_model), other)
    TrainingManifest.from_texts(["w7 w8 w9"], datasets=["other"]).save(other)
    assert run(["merge", str(model), str(other), "--out", str(tmp_path / "merged")]) == 0
    merged = TrainingManifest.load(tmp_path / "merged")
    assert merged.datasets == both.datasets | {"other"}
    assert merged.unknown_starts == both.unknown_starts
    assert merged.has_texts(["W7, w8 w9!"]).all()
    assert np.array_equal(merged.pairs, both.pairs)


def test_untrained_models_merge_to_one_that_says_nothing(tiny_model, tmp_path, capsys):
    out = tmp_path / "merged"
    assert run(["merge", str(tiny_model), str(tiny_model), "--out", str(out)]) == 0
    assert not (out / FILES[0]).exists()


def test_a_source_of_too_many_rows_is_named_without_its_texts(
    monkeypatch, run_stages, world, tmp_path
):
    monkeypatch.setattr(trained_on, "MAX_NUMBERED", 1)
    learn = {"kind": "contrastive", "model": "base", "mixture": {"batch_size": 8},
             "sources": {"waves": {"path": str(world.pairs)}}, "training": TRAINING}  # fmt: skip
    ran = run_stages(tmp_path / "run", {"learned": learn})
    manifest = TrainingManifest.load(ran["learned"].output)
    assert manifest.datasets == {"waves", "pairs"}
    assert manifest.unnumbered == {"waves"}
    assert "waves" in manifest.unknown
    assert len(manifest.texts) == len(manifest.pairs) == 0


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("sets/banking77/train.jsonl", "banking77"),
        ("sets/banking77/test.jsonl.zst", "banking77"),
        ("pairs/lcqmc_train.jsonl.zst", "lcqmc_train"),
        ("topics.jsonl", "topics"),
    ],
)
def test_a_set_is_called_as_its_file_or_else_its_folder(tmp_path, path, name):
    assert dataset_name(tmp_path / path) == name
