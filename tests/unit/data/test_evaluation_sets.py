"""The texts of an evaluation set are told from what may be trained on, whatever its layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from opengte.data.evaluation_sets import read_evaluation_set
from opengte.errors import DataError


def write(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_folder_of_splits_measures_with_test_and_trains_on_train(tmp_path: Path) -> None:
    write(tmp_path / "sts/test.jsonl", {"sentence1": "a b", "sentence2": "c d", "score": 2.5})
    write(tmp_path / "sts/dev.jsonl", {"sentence1": "x", "sentence2": "y", "score": 1})
    write(tmp_path / "sts/train.jsonl", {"sentence1": "e f", "sentence2": "g", "score": 0})
    found = read_evaluation_set(tmp_path / "sts")
    assert (found.name, found.split) == ("sts", "test")
    assert found.measured == (("a b", "c d"),)
    assert found.training == ("e f", "g")
    assert read_evaluation_set(tmp_path / "sts", split="dev").measured == (("x", "y"),)


def test_labels_ids_and_empty_fields_are_no_texts(tmp_path: Path) -> None:
    write(
        tmp_path / "test.jsonl",
        {"id": "7", "text": "card lost", "label": "lost_card", "note": "", "metadata": "m"},
        {"query": "q", "positive": ["p", "r"], "negative": [" "], "candidates": [1, "s"]},
    )
    found = read_evaluation_set(tmp_path)
    assert found.measured == (("card lost",), ("q", "p", "r", "s"))


def test_tables_and_single_files(tmp_path: Path) -> None:
    for name in ("deu", "fra"):
        with gzip.open(tmp_path / f"{name}-eng.tsv.gz", "wt", encoding="utf-8") as stream:
            stream.write(f"12\t{name} text\tan English text\n")
    found = read_evaluation_set(tmp_path)
    assert found.split == "all"
    assert found.measured == (("deu text", "an English text"), ("fra text", "an English text"))
    alone = read_evaluation_set(tmp_path / "fra-eng.tsv.gz")
    assert (alone.name, alone.split, len(alone.measured)) == ("fra-eng", "fra-eng", 1)


def test_a_beir_folder_gives_judged_queries_training_queries_and_documents(tmp_path: Path) -> None:
    write(tmp_path / "corpus.jsonl", {"_id": "d1", "title": "T", "text": "body one"})
    queries = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(4)]
    write(tmp_path / "queries.jsonl", *queries)
    (tmp_path / "qrels").mkdir()
    head = "query-id\tcorpus-id\tscore\n"
    (tmp_path / "qrels/test.tsv").write_text(f"{head}q0\td1\t1\nq1\td1\t1\n")
    (tmp_path / "qrels/train.tsv").write_text(f"{head}q1\td1\t1\nq2\td1\t1\n")
    found = read_evaluation_set(tmp_path)
    assert found.split == "test"
    assert found.measured == (("query 0",), ("query 1",))
    assert found.training == ("query 2",)  # q1 is measured with
    assert set(found.corpus) == {"body one", "T body one"}


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "neither a BEIR folder nor a folder of SPLIT.jsonl or .tsv files"),
        ({"test.jsonl": '{"text": "a"}\n'}, {"split": "dev"}, "no split 'dev'; there are: test"),
        ({"train.jsonl": '{"text": "a"}\n'}, {}, "only a train split; name what is measured"),
        ({"test.jsonl": ""}, {}, "the evaluation set holds no text"),
        ({"test.jsonl": '{"text": '}, {}, r"test\.jsonl:1: not valid JSON"),
    ],
)
def test_what_is_no_evaluation_set_is_named(
    files: dict[str, str], options: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_evaluation_set(tmp_path, **options)


def test_a_missing_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*no such evaluation set"):
        read_evaluation_set(tmp_path / "nowhere")
