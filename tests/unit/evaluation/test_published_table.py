"""The evaluation page says what the results file says, and what the issue asks for."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from opengte.evaluation.published_scores import published_scores

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/reference/evaluation.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "benchmarks/evaluation/results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def benchmark():
    """The program that wrote the file; it is no part of the package."""
    path = ROOT / "benchmarks/evaluation/run.py"
    spec = importlib.util.spec_from_file_location("evaluation_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_the_page_s_table_is_that_of_the_results_file(benchmark):
    assert benchmark.filled(PAGE, RESULTS) == PAGE
    assert benchmark.table(RESULTS) in PAGE
    assert RESULTS["command"] == benchmark.COMMAND
    other = {
        **RESULTS,
        "rows": [{**row, "score": row["score"] + 0.0002} for row in RESULTS["rows"]],
    }
    assert benchmark.filled(PAGE, other) != PAGE


def test_every_set_is_there_with_its_difference_and_what_is_allowed(benchmark):
    rows = {row["set"]: row for row in RESULTS["rows"]}
    assert {name: row["tolerance"] for name, row in rows.items()} == benchmark.TOLERANCES
    for row in rows.values():
        # the difference is of the whole score, of which the file keeps four digits
        assert row["difference"] == pytest.approx(row["score"] - row["published"], abs=1.01e-4)
    reached = sum(abs(row["difference"]) <= row["tolerance"] for row in rows.values())
    assert RESULTS["ratios"] == {"published_scores_reproduced": reached / len(rows)}


def test_what_is_published_is_what_the_package_ships(benchmark):
    shipped = {
        (score.task, score.metric): score.score
        for score in published_scores()
        if score.model == benchmark.MODEL
    }
    for row in RESULTS["rows"]:
        assert shipped[row["task"], row["metric"]] == row["published"]
