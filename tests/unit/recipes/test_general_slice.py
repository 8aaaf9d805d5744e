"""The committed general slice is what its maker says, and can be made again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SLICE = ROOT / "src/opengte/recipes/general"


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SLICE / name).read_text("utf-8").splitlines()]


def judgements(split: str) -> dict[str, set[str]]:
    relevant: dict[str, set[str]] = {}
    header, *lines = (SLICE / f"qrels/{split}.tsv").read_text("utf-8").splitlines()
    assert header == "query-id\tcorpus-id\tscore"
    for line in lines:
        query, document, score = line.split("\t")
        assert score == "1"
        relevant.setdefault(query, set()).add(document)
    return relevant


def test_each_split_judges_at_least_300_queries_and_shares_none_with_the_other():
    dev, test = judgements("dev"), judgements("test")
    assert min(len(dev), len(test)) >= 300
    assert not dev.keys() & test.keys()
    assert not set().union(*dev.values()) & set().union(*test.values())


def test_every_judgement_names_a_query_and_a_document_that_exist():
    queries = {row["_id"] for row in rows("queries.jsonl")}
    corpus = {row["_id"] for row in rows("corpus.jsonl")}
    for split in ("dev", "test"):
        relevant = judgements(split)
        assert relevant.keys() <= queries
        assert set().union(*relevant.values()) <= corpus


def test_ids_and_texts_are_unique_and_texts_are_short():
    for name in ("queries.jsonl", "corpus.jsonl"):
        found = rows(name)
        assert len({row["_id"] for row in found}) == len(found)
        assert len({row["text"].lower() for row in found}) == len(found)
        assert all(0 < len(row["text"].split()) <= 120 for row in found)


def test_is_small_enough_to_ship_and_names_the_licence_of_every_source():
    assert sum(file.stat().st_size for file in SLICE.rglob("*") if file.is_file()) < 1_100_000
    licences = (SLICE / "LICENCES.md").read_text("utf-8")
    for source in {row["_id"].rsplit("-", 1)[0] for row in rows("corpus.jsonl")}:
        assert f"| {source} |" in licences


@pytest.mark.shared
def test_its_maker_makes_the_same_bytes_again(shared_data: Path, tmp_path: Path):
    maker = ROOT / "benchmarks/general_slice/build.py"
    command = [sys.executable, maker, "--pairs", shared_data / "pairs", "--out", tmp_path]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    for file in SLICE.rglob("*"):
        if file.is_file():
            assert (tmp_path / file.relative_to(SLICE)).read_bytes() == file.read_bytes()
