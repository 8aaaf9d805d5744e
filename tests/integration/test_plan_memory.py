"""``gte plan``'s memory against the peak that ``gte run`` of the same recipe then has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

DATA = Path(__file__).parents[2] / "examples" / "data" / "pairs"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
RECIPES: Mapping[str, tuple[str, int, Mapping[str, Any]]] = {
    "everything kept, float32": (
        "docstring_code",
        64,
        {"num_steps": 9, "precision": "float32", "gradient_cache": "never"},
    ),
    "small batches": ("question_answer", 24, {"num_steps": 12, "precision": "bfloat16"}),
    "cached gradients": (
        "title_body",
        128,
        {"num_steps": 3, "gradient_cache": "always", "micro_batch_tokens": 4096},
    ),
}


def gte(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "opengte.cli.main", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_memory_forecast_is_within_a_fifth_of_the_measured_peak(
    tmp_path: Path, minilm_folder: Path, name: str
) -> None:
    source, batch_size, training = RECIPES[name]
    stage = {
        "kind": "contrastive",
        "model": "base",
        "sources": {"pairs": {"path": str(DATA / f"{source}.jsonl")}},
        "mixture": {"batch_size": batch_size},
        "training": {**training, "dropout": 0.1, "attention_dropout": 0.1},
    }
    recipe = tmp_path / "recipe.yaml"
    backbone = {"model": str(minilm_folder), "max_tokens": 128}
    recipe.write_text(
        yaml.safe_dump({"name": "memory", "backbone": backbone, "stages": {"train": stage}})
    )
    gte("plan", str(recipe), "--out", str(tmp_path / "run"), "--json", str(tmp_path / "plan.json"))
    gte("run", str(recipe), "--out", str(tmp_path / "run"), "--quiet")
    (planned,) = json.loads((tmp_path / "plan.json").read_text())["stages"]
    ran = json.loads((tmp_path / "run" / "stages" / "train" / "stage.json").read_text())
    peak, forecast = ran["peak_rss_mb"], planned["memory_mib"]
    print(f"{name}: forecast {forecast:.0f} MiB, peak {peak:.0f} MiB: {forecast / peak:.3f}")
    assert planned["num_steps"] == ran["facts"]["num_steps"]
    assert forecast == pytest.approx(peak, rel=0.2)
