"""``docs/systems.md`` names every recipe, tests that exist, and the results as written."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

from opengte.pipeline.recipe import bundled_recipes

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/systems.md").read_text("utf-8")
RESULTS = ROOT / "benchmarks/recipes/results.json"


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", ROOT / "benchmarks/recipes/run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_system_has_a_row() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    systems = {name for name in bundled_recipes() if not name.endswith("-tiny")} - {"quickstart"}
    first_cells = " ".join(row.split("|")[1] for row in rows)
    assert systems <= set(re.findall(r"`([\w.-]+)`", first_cells))


def test_tests_it_names_exist() -> None:
    named = set(re.findall(r"`((?:parity/)?[\w-]+/(?:[\w-]+/)?test_\w+)`", PAGE))
    assert len(named) >= 12
    for name in named:
        folder = ROOT / "tests" / ("" if name.startswith("parity/") else "unit")
        assert (folder / f"{name}.py").is_file(), name


def test_its_table_is_the_results_file() -> None:
    run = runner()
    rows = json.loads(RESULTS.read_text("utf-8"))["rows"]
    assert run.table(rows) in PAGE
    assert {row["recipe"] for row in rows} <= set(run.tiny_recipes())


def test_every_recipe_in_it_was_green_and_within_its_budget() -> None:
    for row in json.loads(RESULTS.read_text("utf-8"))["rows"]:
        assert row["green"], row
        assert row["cpu_seconds"] < 90, row["recipe"]
        assert row["gains"], row["recipe"]


def test_gains_are_read_from_differences_and_held_out_texts() -> None:
    facts = {
        "differences": {"retrieval": {"metric": "ndcg@10", "difference": 0.1, "ci95": [0.0, 0.2]}},
        "held_out": {"before": 3.0, "after": 2.0, "difference": -1.0, "ci95": [-1.5, -0.5]},
    }
    found = list(runner().gains({"name": "final", "facts": facts}))
    assert [gain["on"] for gain in found] == ["retrieval", "held-out texts"]
    assert found[1]["value"] == 2.0
