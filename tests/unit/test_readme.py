"""The README says what the results file says, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_numbers_are_those_of_the_results_file():
    path = ROOT / "benchmarks/quickstart/readme.py"
    spec = importlib.util.spec_from_file_location("quickstart_readme", path)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    summary = json.loads((ROOT / "benchmarks/quickstart/default.json").read_text(encoding="utf-8"))
    assert maker.filled(README, summary) == README
    assert maker.results(summary) in README
    summary["paired_difference"]["mean"] += 0.001
    assert maker.filled(README, summary) != README


def test_every_local_link_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
