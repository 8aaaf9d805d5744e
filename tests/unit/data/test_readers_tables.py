"""Tables in the peers' own files: CSV, Parquet, Arrow, saved datasets, MTEB tasks, ids."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.readers import ReadReport, read_pairs
from opengte.data.readers.hf_datasets import read_hf_pairs, read_mteb_pairs
from opengte.errors import DataError
from opengte.records import Pair

ROWS = [
    {"anchor": f'question "{n}"', "positive": f"answer, {n}\nsecond line", "negative": f"no {n}"}
    for n in range(2500)
]
EXPECTED = [(row["anchor"], row["positive"], (row["negative"],)) for row in ROWS]


def triples(pairs: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(pair.query, pair.positive, pair.negatives) for pair in pairs]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_csv_that_pandas_wrote(suffix: str, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / f"rows{suffix}"
    pandas.DataFrame(ROWS).to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    assert triples(read_pairs(path)) == EXPECTED


def test_parquet_and_arrow_files(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=700)
    with (
        pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=300)
    with (
        pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    for name in ("rows.parquet", "rows.arrow", "stream.arrow"):
        pairs = list(read_pairs(tmp_path / name))
        assert triples(pairs) == EXPECTED
        assert pairs[1500].origin == f"{name}:1501"


def test_folders_that_datasets_saved_and_datasets_in_memory(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": dataset.select([0]), "train": dataset}).save_to_disk(
        tmp_path / "dict"
    )
    datasets.DatasetDict({"a": dataset, "b": dataset}).save_to_disk(tmp_path / "other")
    dataset.to_parquet(tmp_path / "rows.parquet")
    dataset.to_json(tmp_path / "rows.jsonl")
    for name in ("one", "dict", "rows.parquet", "rows.jsonl"):
        assert triples(read_pairs(tmp_path / name)) == EXPECTED
    assert triples(read_hf_pairs(dataset)) == EXPECTED
    assert triples(read_hf_pairs(dataset.to_iterable_dataset())) == EXPECTED
    with pytest.raises(DataError, match=r"no split 'train' among \['a', 'b'\]"):
        list(read_pairs(tmp_path / "other"))
    renamed = dataset.rename_columns({"anchor": "ask", "positive": "tell"})
    with pytest.raises(DataError, match=r"dataset:1: no fields of a pair|no field"):
        list(read_hf_pairs(renamed))
    named = read_hf_pairs(renamed, columns={"query": "ask", "positive": "tell"})
    assert [pair.query for pair in named] == [row["anchor"] for row in ROWS]


def test_saved_folder_with_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
    with pytest.raises(DataError, match=r"data-0\.arrow: state\.json names this file"):
        list(read_pairs(tmp_path))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(DataError, match="no folder that datasets' save_to_disk wrote"):
        list(read_pairs(tmp_path))


def test_missing_column_names_the_file_and_what_is_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["q"], "text": ["t"]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet:1: no field 'positive'; found \['query', "):
        list(read_pairs(tmp_path / "rows.parquet"))
    (tmp_path / "rows.csv").write_text("query,answer\nq,a\n")
    with pytest.raises(DataError, match=r"rows\.csv:2: no field 'positive'"):
        list(read_pairs(tmp_path / "rows.csv"))


def test_nan_scores_and_nulls_are_refused_with_their_row(tmp_path: Path) -> None:
    table = pa.table(
        {"query": ["a", "b", None], "positive": ["x", "y", "z"], "score": [1.0, math.nan, 0.5]}
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet:2: .*'score' must be a finite number"):
        list(read_pairs(tmp_path / "rows.parquet"))
    report = ReadReport()
    pairs = list(read_pairs(tmp_path / "rows.parquet", on_bad_row="skip", report=report))
    assert [pair.query for pair in pairs] == ["a"]
    assert report.skipped == {"bad score": 1, "bad query": 1}


def test_csv_rows_of_wrong_width_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('query,positive\n"two\nlines",a\nonly one\nq,p\n')
    with pytest.raises(DataError, match=r"rows\.csv:4: expected 2 fields as in the header, got 1"):
        list(read_pairs(path))
    pairs = list(read_pairs(path, on_bad_row="skip"))
    assert [(pair.query, pair.origin) for pair in pairs] == [
        ("two\nlines", "rows.csv:2"),
        ("q", "rows.csv:5"),
    ]


def test_unclosed_quote_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('query,positive\nq,p\n"never closed,p\nq,p\n')
    with pytest.raises(DataError, match=r"rows\.csv:3: not a table with the delimiter ','"):
        list(read_pairs(path))


def test_tab_separated_quotes_are_text_where_no_field_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "msr.tsv"
    path.write_text('sentence1\tsentence2\tscore\n"Yes," he said.\t"No\t0.5\n')
    (pair,) = read_pairs(path)
    assert (pair.query, pair.positive, pair.score) == ('"Yes," he said.', '"No', 0.5)


def test_header_that_repeats_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("query,query,positive\na,b,c\n")
    with pytest.raises(DataError, match=r"rows\.csv:1: a column name stands twice"):
        list(read_pairs(tmp_path / "rows.csv"))


def test_invalid_utf8_in_a_table_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"query,positive\nq,p\nq\xff,p\n")
    with pytest.raises(DataError, match=r"rows\.csv:3: byte 1 of the line \(0xFF\)"):
        list(read_pairs(tmp_path / "rows.csv"))


def test_columns_belong_to_tables(tmp_path: Path) -> None:
    (tmp_path / "a.bib").write_text("@book{k, title={t}}")
    with pytest.raises(DataError, match="columns= names fields of jsonl"):
        list(read_pairs(tmp_path / "a.bib", columns={"query": "title"}))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="columns names 'document'; it may name query"):
        list(read_pairs(tmp_path / "a.csv", columns={"document": "b"}))


def test_tevatron_ids_are_looked_up_in_the_corpus_beside_them(tmp_path: Path) -> None:
    rows = [
        {"query_id": "1", "query_text": "q", "positive_document_ids": ["7"],
         "negative_document_ids": ["8", "9"]},
        {"query_id": "2", "query_text": "r", "positive_document_ids": ["10"],
         "negative_document_ids": []},
    ]  # fmt: skip
    corpus = [{"docid": "7", "title": "T", "text": "p"}, {"docid": "8", "text": "n"}]
    corpus.append({"docid": "9", "title": "", "text": "m"})
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"train\.jsonl: its rows name documents by id"):
        list(read_pairs(path))
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    with pytest.raises(DataError, match=r"train\.jsonl:2: .*names '10', not in the corpus"):
        list(read_pairs(path))
    pairs = list(read_pairs(path, on_bad_row="skip"))
    assert pairs == [Pair("q", "T p", ("n", "m"), origin="train.jsonl:1")]


def mteb_task(kind: str, dataset: Any) -> Any:
    return SimpleNamespace(
        metadata=SimpleNamespace(type=kind, name="Local"), data_loaded=True, dataset=dataset
    )


def test_mteb_tasks_by_their_type() -> None:
    retrieval = {
        "default": {
            "train": {
                "corpus": [{"id": "d", "title": "T", "text": "x"}, {"id": "e", "text": "y"}],
                "queries": [{"id": "q", "text": "ask"}],
                "relevant_docs": {"q": {"d": 1, "e": 0}},
            }
        }
    }
    assert triples(read_mteb_pairs(mteb_task("Retrieval", retrieval))) == [("ask", "T x", ("y",))]
    sts = {"train": [{"sentence1": "a", "sentence2": "b", "score": 4.5}]}
    assert triples(read_mteb_pairs(mteb_task("STS", sts))) == [("a", "b", ()), ("b", "a", ())]
    classes = {"train": [{"text": "x", "label": 0}, {"text": "y", "label": 1}]}
    assert triples(read_mteb_pairs(mteb_task("Classification", classes))) == [
        ("x", "0", ("1",)),
        ("y", "1", ("0",)),
    ]
    with pytest.raises(DataError, match=r"Local has no split 'train'; found \['test'\]"):
        list(read_mteb_pairs(mteb_task("STS", {"test": []})))
    with pytest.raises(DataError, match="tasks of type 'Summarization' give no pairs"):
        list(read_mteb_pairs(mteb_task("Summarization", {"train": []})))


def test_a_real_mteb_task_object() -> None:
    mteb = pytest.importorskip("mteb")
    with pytest.raises(DataError, match="mteb knows no task 'NoSuchTask'"):
        list(read_mteb_pairs("NoSuchTask"))
    task = mteb.get_task("STSBenchmark")
    task.dataset = {"train": [{"sentence1": "a", "sentence2": "b", "score": 5.0}]}
    task.data_loaded = True
    assert len(list(read_mteb_pairs(task))) == 2


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@settings(deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_csv_round_trip(rows: list[tuple[str, str]]) -> None:
    import csv
    import tempfile

    rows = [(a, b) for a, b in rows if a.strip() and b.strip()]
    rows = [(a.replace("\r", " "), b.replace("\r", " ")) for a, b in rows]
    if not all(a.strip() and b.strip() for a, b in rows) or not rows:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with open(path, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([("query", "positive"), *rows])
        assert [(p.query, p.positive) for p in read_pairs(path)] == rows
