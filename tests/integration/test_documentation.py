"""The site builds offline and strictly, and every page is in its navigation."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def navigation_hook():
    spec = importlib.util.spec_from_file_location("navigation", DOCS / "hooks/navigation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_navigation_holds_every_page_once_and_sections_in_order(tmp_path):
    for page in (
        *("index.md", "how-to/b.md", "how-to/a.md", "how-to/index.md", "tutorials/quickstart.md"),
        *("tutorials/evaluate.md", "decisions/001-x.md", "zoo/deep/page.md"),
    ):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text("# Title\n")
    assert navigation_hook().navigation(tmp_path) == [
        "index.md",
        {"Tutorials": ["tutorials/quickstart.md", "tutorials/evaluate.md"]},
        {"How to": ["how-to/index.md", "how-to/a.md", "how-to/b.md"]},
        {"Decisions": ["decisions/001-x.md"]},
        {"Zoo": ["zoo/deep/page.md"]},
    ]


def test_every_page_has_one_title():
    for page in DOCS.rglob("*.md"):
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        assert len(re.findall(r"^# .", text, flags=re.MULTILINE)) == 1, page


@pytest.mark.slow
def test_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is in the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "default"}
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    loaded = re.compile(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(https?:[^"'\s>]+)""")
    for page in tmp_path.rglob("*.html"):
        assert loaded.findall(page.read_text("utf-8")) == [], page
