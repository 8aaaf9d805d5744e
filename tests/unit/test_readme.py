"""The README and the pages say what the results files say, and its links lead somewhere."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def program(path: str) -> Any:
    """A file that is no part of the package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_its_numbers_are_those_of_the_results_file():
    maker = program("benchmarks/quickstart/readme.py")
    summary = json.loads((ROOT / "benchmarks/quickstart/default.json").read_text(encoding="utf-8"))
    assert maker.filled(README, summary) == README
    assert maker.results(summary) in README
    summary["paired_difference"]["mean"] += 0.001
    assert maker.filled(README, summary) != README


def test_its_ratios_are_those_of_the_results_files():
    maker = program("benchmarks/headline.py")
    assert maker.filled(README) == README
    assert maker.filled(README.replace("| 2.1 |", "| 9.9 |")) == README
    assert "| 2.1 |" in README


def changed_mining(results: Any) -> None:
    results["rows"][-1]["against_random"][0] += 0.001


def changed_training(results: Any) -> None:
    results["quality"]["ours_minus_peer"]["mean"] += 0.001


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("benchmarks/mining/table.py", changed_mining),
        ("benchmarks/training/table.py", changed_training),
    ],
)
def test_a_page_shows_the_table_of_its_results_file(path, change):
    maker = program(path)
    page, results = maker.PAGE.read_text(encoding="utf-8"), json.loads(maker.RESULTS.read_text())
    assert maker.filled(page, results) == page
    other = copy.deepcopy(results)
    change(other)
    assert maker.filled(page, other) != page


def test_the_page_on_systems_shows_the_tiny_recipes():
    maker = program("benchmarks/recipes/run.py")
    page, rows = maker.PAGE.read_text(encoding="utf-8"), maker.read_rows()
    assert maker.filled(page, rows) == page
    assert maker.filled(page, rows[1:]) != page


def test_a_page_without_a_place_is_refused():
    maker = program("benchmarks/quickstart/readme.py")
    with pytest.raises(ValueError, match="results:start"):
        maker.with_block("no place", "results", "table")


def test_every_local_link_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
