"""``examples/data`` is small, whole, and shares nothing with the general slice."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "examples/data"
PAIRS = sorted((DATA / "pairs").glob("*.jsonl"))


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def words(text: object) -> str:
    return re.sub(r"\W+", " ", str(text).lower()).strip()


def test_is_below_three_megabytes():
    assert sum(file.stat().st_size for file in DATA.rglob("*") if file.is_file()) < 3_000_000


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_pairs_have_both_sides_once_and_are_named_in_sources(path: Path):
    found = rows(path)
    assert 300 <= len(found) <= 800
    assert all(str(row["query"]).strip() and str(row["positive"]).strip() for row in found)
    assert len({(row["query"], row["positive"]) for row in found}) == len(found)
    assert f"pairs/{path.name} | {len(found)} |" in (DATA / "SOURCES.md").read_text("utf-8")


def test_no_example_stands_in_the_general_slice():
    general = ROOT / "src/opengte/recipes/general"
    held_out = {
        words(row["text"])
        for name in ("corpus", "queries")
        for row in rows(general / f"{name}.jsonl")
    }
    for path in PAIRS:
        for row in rows(path):
            assert words(row["query"]) not in held_out
            assert words(row["positive"]) not in held_out


def test_docstring_pairs_do_not_hold_their_own_docstring():
    for row in rows(DATA / "pairs/docstring_code.jsonl"):
        first_words = str(row["query"])[:60]
        assert '"""' + first_words not in str(row["positive"])


def test_classification_has_the_same_labels_in_train_and_test():
    train, test = (rows(DATA / f"classification/{split}.jsonl") for split in ("train", "test"))
    assert {row["label"] for row in train} == {row["label"] for row in test}
    assert len({row["label"] for row in train}) == 12


@pytest.mark.shared
def test_its_maker_makes_the_same_bytes_again(shared_data: Path, tmp_path: Path):
    if f"CPython {platform.python_version()}," not in (DATA / "SOURCES.md").read_text("utf-8"):
        pytest.skip("made from another version of the standard library")
    command = [ROOT / "examples/build_data.py", "--shared", shared_data, "--out", tmp_path]
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    made = {file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()}
    kept = {file.relative_to(DATA) for file in DATA.rglob("*") if file.is_file()}
    assert kept - made == {Path("ruff.toml")}
    assert all((tmp_path / file).read_bytes() == (DATA / file).read_bytes() for file in made)
