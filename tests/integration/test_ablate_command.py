"""``gte ablate``: a grid over settings and seeds, one command that can be stopped and repeated."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from opengte.cli.ablate import parse_varied
from opengte.cli.main import run
from opengte.errors import ConfigError
from opengte.evaluation.ablation import minimal_detectable_effect

RECIPE = """
name: small
backbone:
  model: {model}
  max_tokens: 16
stages:
  train:
    kind: contrastive
    model: base
    sources:
      pairs:
        path: {pairs}
    loss:
      kind: info_nce
      temperature: 0.05
    mixture:
      batch_size: 8
    training:
      num_steps: 3
      precision: float32
  final:
    kind: evaluate
    model: train
    tasks: [{task}]
"""


@pytest.fixture
def recipe(tiny_model, tmp_path):
    words = [f"{a}{b}" for a in ("red", "blue", "old", "new") for b in ("tea", "sea", "key")]
    pairs = [{"query": f"what is {w}", "positive": f"{w} is a word, {w}"} for w in words * 2]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    rng = np.random.default_rng(0)
    rows = [
        {
            "sentence1": str(rng.choice(words)),
            "sentence2": str(rng.choice(words)),
            "score": int(rng.integers(5)),
        }
        for _ in range(40)
    ]
    (tmp_path / "alike.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        RECIPE.format(
            model=tiny_model, pairs=tmp_path / "pairs.jsonl", task=tmp_path / "alike.jsonl"
        )
    )
    return path


def test_noise_comes_first_and_a_second_run_only_repeats_the_table(recipe, tmp_path, capsys):
    arguments = ["ablate", str(recipe), "--out", str(tmp_path / "grid")]
    arguments += ["--vary", "stages.train.training.learning_rate=1e-3,1e-2", "--seeds", "2"]
    assert run([*arguments, "--json", str(tmp_path / "grid.json")]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    cells = [line.partition(": ")[0] for line in lines if re.search(r"seed=\d: ", line)]
    assert cells == [
        f"stages.train.training.learning_rate={rate},seed={seed}"
        for rate in ("1e-3", "1e-2")
        for seed in (0, 1)
    ]
    assert lines[2].startswith("seed noise of tasks: ")  # before the second setting begins
    assert "2 settings of 2 seeds show with 80 % power" in lines[3]
    found = json.loads((tmp_path / "grid.json").read_text())
    assert found == json.loads((tmp_path / "grid" / "ablation.json").read_text())
    first, second = found["rows"]
    assert len({*first["scores"], *second["scores"]}) == 4
    assert second["difference"]["mean"] == pytest.approx(second["mean"] - first["mean"])
    noise = float(np.std(first["scores"], ddof=1))
    assert found["seed_noise"]["std"] == pytest.approx(noise)
    assert found["minimal_detectable_effect"] == pytest.approx(minimal_detectable_effect(noise, 2))
    plot = (tmp_path / "grid" / "ablation.svg").read_text()
    assert plot.count("learning_rate=") == 2
    assert "learning_rate=1e-2" in (tmp_path / "grid" / "ablation.txt").read_text()

    assert run(arguments) == 0
    again = capsys.readouterr()
    assert again.out == captured.out
    assert again.err.count("unchanged, kept") == 8  # two stages of four cells
    assert "done in" not in again.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vary", "seed"], "--vary expects KEY=A,B, got 'seed'"),
        (["--vary", "stages.train.training.num_steps=3"], "two settings at least"),
        (["--vary", "stages.train.training.num_stepz=3,4"], "num_steps"),
        (["--vary", "stages.train.loss.temperature=0.05,-1"], "temperature"),
        (["--vary", "stages.train.training.num_steps=3,4", "--stage", "train"], "there are final"),
        (["--vary", "seed=1,2", "--vary", "seed=3,4"], "the same key is varied twice"),
    ],
)
def test_what_cannot_run_is_told_before_anything_runs(recipe, tmp_path, capsys, options, message):
    assert run(["ablate", str(recipe), "--out", str(tmp_path / "grid"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "grid").exists()


def test_a_metric_that_is_not_there_lists_those_that_are(recipe, tmp_path, capsys):
    options = ["--vary", "stages.train.training.num_steps=1,2", "--metric", "systems/dense/mrr@9"]
    assert run(["ablate", str(recipe), "--out", str(tmp_path / "grid"), *options]) == 2
    message = capsys.readouterr().err
    assert "no number 'systems/dense/mrr@9' in these results" in message
    assert "tasks/alike/main_score" in message


def test_commas_inside_brackets_do_not_part_values():
    assert parse_varied("a.b=1,2") == ("a.b", ["1", "2"])
    assert parse_varied("w=[1.0, 0.5],[1.0]") == ("w", ["[1.0, 0.5]", "[1.0]"])
    assert parse_varied("loss={kind: cosent, x: 1},{kind: circle}")[1] == [
        "{kind: cosent, x: 1}",
        "{kind: circle}",
    ]
    with pytest.raises(ConfigError, match="--vary expects KEY=A,B"):
        parse_varied("a=")
