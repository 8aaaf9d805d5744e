"""Every tiny recipe from the command line: green, within its budget, and its mechanism at work.

A shard of its own: ``make recipes``. Each run is a process; what it claims is read from the
``stage.json`` files that it leaves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opengte.pipeline.recipe import bundled_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(name for name in bundled_recipes() if name.endswith("-tiny"))
LIMIT_SECONDS = 90.0
pytestmark = pytest.mark.slow

Facts = dict[str, dict[str, Any]]


def run(name: str, folder: Path, *overrides: str) -> Facts:
    """Stage name to facts, after ``gte run``; fails with what the command printed."""
    command = [sys.executable, "-m", "opengte", "run", name, "--out", str(folder)]
    for override in overrides:
        command += ["--set", override]
    before = os.times()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    after = os.times()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    assert spent < 2 * LIMIT_SECONDS, "CPU seconds: 90 on two cores are 180"
    return {
        file.parent.name: json.loads(file.read_text("utf-8"))["facts"]
        for file in folder.glob("stages/*/stage.json")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Facts]:
    """The facts of a recipe's run, made once."""
    known: dict[str, Facts] = {}

    def get(name: str) -> Facts:
        if name not in known:
            known[name] = run(name, tmp_path_factory.mktemp(name) / "run")
        return known[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_runs_green_and_tells_what_it_gained(name: str, finished: Callable[[str], Facts]) -> None:
    facts = finished(name)
    assert set(facts) == set(load_recipe(name).stages)
    measured = [
        found for stage in facts.values() for found in stage.get("differences", {}).values()
    ]
    measured += [stage["held_out"] for stage in facts.values() if "held_out" in stage]
    assert measured
    for found in measured:
        if found["ci95"] is not None:  # bitext has no interval
            low, high = found["ci95"]
            assert low <= found["difference"] <= high


def refusals(facts: Facts, stage: str) -> dict[str, int]:
    report = facts[stage]["report"]["skipped"]
    return {rule: outcome["count"] for rule, outcome in report.items()}


MECHANISMS: dict[str, Callable[[Facts], bool]] = {
    "mgte-mlm-tiny": lambda f: all(
        f[name]["held_out"]["after"] < f[name]["held_out"]["before"]
        for name in ("mlm-2048", "mlm-8192")
    ),
    "mgte-rerank-tiny": lambda f: (
        f["mine"]["num_random_negatives"] > 0
        and f["rerank"]["first_lists"]["candidates"] == 11
        and f["rerank"]["first_lists"]["own_negatives"] > 6
    ),
    "nv-embed-v2-tiny": lambda f: refusals(f, "mine")["perc_pos"] > 0,
    "linq-embed-mistral-tiny": lambda f: f["refine"]["num_dropped"] > 0,
    "conan-v1-tiny": lambda f: (
        f["filter"]["num_dropped"] > 0 and f["finetune"]["refreshed"]["num_replaced"] > 0
    ),
    "qwen3-embedding-tiny": lambda f: (
        f["select"]["num_dropped"] >= 0 and f["merge"]["method"] == "slerp"
    ),
    "e5-tiny": lambda f: f["filter"]["num_dropped"] > 0,
    "bge-tiny": lambda f: (
        f["retromae"]["held_out"]["after"] < f["retromae"]["held_out"]["before"]
        and f["merge"]["method"] == "linear"
    ),
    "gpl-tiny": lambda f: f["synthesize"]["num_pairs"] > 0,
    "gte-nli-tiny": lambda f: f["entail"]["held_out"]["difference"] > 0,
}


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_mechanism_leaves_its_trace(name: str, finished: Callable[[str], Facts]) -> None:
    assert MECHANISMS[name](finished(name))


def test_without_perc_pos_nothing_is_refused_by_it(
    tmp_path: Path, finished: Callable[[str], Facts]
) -> None:
    assert refusals(finished("nv-embed-v2-tiny"), "mine")["perc_pos"] > 0
    facts = run(
        "nv-embed-v2-tiny",
        tmp_path / "run",
        "stages.mine.rules.perc_pos=null",
        "stages.retrieval.training.num_steps=1",
        "stages.all-tasks.training.num_steps=1",
    )
    assert "perc_pos" not in refusals(facts, "mine")


def test_without_refresh_no_negative_is_replaced(tmp_path: Path) -> None:
    facts = run(
        "conan-v1-tiny",
        tmp_path / "run",
        "stages.finetune.refresh=null",
        "stages.pretrain.training.num_steps=1",
        "stages.finetune.training.num_steps=2",
    )
    assert "refreshed" not in facts["finetune"]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run("gte-nli-tiny", folder)
    marks = {file: file.stat().st_mtime_ns for file in folder.glob("stages/*/stage.json")}
    assert run("gte-nli-tiny", folder) == first
    assert marks == {file: file.stat().st_mtime_ns for file in marks}
