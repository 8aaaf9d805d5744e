"""Sources as recipes write them: found, converted, capped, and refused by their name."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from opengte.atomic import write_text
from opengte.data.build import build_store
from opengte.errors import ConfigError, DataError
from opengte.pipeline import teacher_labels
from opengte.pipeline.console import Console
from opengte.pipeline.files import file_marks, find_data
from opengte.pipeline.labelled import LabelledBatches, LabelledRows, read_labelled
from opengte.pipeline.pair_sources import count_rows, load_pairs, open_sources
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import BackboneConfig, ContrastiveStage
from opengte.pipeline.teacher_labels import (
    LabelTable,
    TaughtEmbeddings,
    TaughtScores,
    key_of,
    label_embeddings,
    label_similarities,
    make_labels,
)
from opengte.records import Batch
from opengte.runtime.hashed import HashEncoder


@pytest.fixture
def context(tmp_path) -> StageContext:
    return StageContext(
        name="train",
        run_folder=tmp_path,
        work=tmp_path / "work",
        output=tmp_path / "out",
        seed=3,
        backbone=BackboneConfig(),
        base_folder=tmp_path,
        results={},
        console=Console(io.StringIO()),
        load_encoder=lambda path, longest: HashEncoder(),
    )


def stage(**sources: dict[str, Any]) -> ContrastiveStage:
    return ContrastiveStage.model_validate(
        {"kind": "contrastive", "model": "base", "sources": sources}
    )


def test_a_file_becomes_a_store_once_and_keeps_its_facts(context, world):
    config = stage(
        topics={"path": str(world.pairs), "task": "sts", "symmetric": True, "query_prompt": "q: ",
                "in_batch_negatives": False, "weight": 2.0, "num_pairs": 100}
    )  # fmt: skip
    (source,) = open_sources(config, context)
    assert (source.name, source.task, source.weight) == ("topics", "sts", 2.0)
    assert source.symmetric
    assert not source.in_batch_negatives
    assert source.query_prompt == "q: "
    assert count_rows(config, [source]) == {"topics": {"rows": 120, "published": 100}}
    stamp = (context.work / "stores" / "topics" / "manifest.json").stat().st_mtime_ns
    open_sources(config, context)
    assert (context.work / "stores" / "topics" / "manifest.json").stat().st_mtime_ns == stamp


def test_a_store_s_source_can_bear_another_name(context, world, tmp_path):
    build_store([world.pairs], tmp_path / "store", num_workers=1)
    (source,) = open_sources(
        stage(topics={"path": str(tmp_path / "store"), "name": "pairs"}), context
    )
    assert source.name == "topics"
    assert len(source.rows) == 120


def test_a_cap_draws_the_same_rows_every_time(context, world):
    config = stage(few={"path": str(world.pairs), "max_pairs": 10})
    first, second = load_pairs(config, context), load_pairs(config, context)
    assert first == second
    assert len(first) == 10
    assert {pair.kind for pair in first} == {"few"}


@pytest.mark.parametrize(("convert", "file"), [("labels", "labelled"), ("examples", "labelled"),
                                               ("nli", "sentences")])  # fmt: skip
def test_labelled_rows_become_pairs(context, world, convert, file):
    config = stage(made={"path": str(getattr(world, file)), "convert": convert})
    pairs = load_pairs(config, context)
    assert pairs
    if convert == "labels":
        assert {pair.positive for pair in pairs} == {"topic 0", "topic 1", "topic 2"}
        assert all(len(pair.negatives) == 2 for pair in pairs)


def test_a_source_without_a_path_is_refused_by_its_name(context):
    config = stage(reddit={"num_pairs": 10})
    with pytest.raises(ConfigError, match=r"stages.train.sources.reddit.path is not set: the rec"):
        open_sources(config, context)


def test_paths_are_looked_up_in_the_source_tree_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_data("examples/data/SOURCES.md").is_file()
    with pytest.raises(ConfigError, match=r"nowhere.jsonl: no such file or folder"):
        find_data("nowhere.jsonl")
    assert file_marks(["nowhere.jsonl", None]) == []


def test_marks_change_when_a_file_does(tmp_path):
    write_text(tmp_path / "a" / "x.txt", "one")
    before = file_marks([str(tmp_path / "a")])
    write_text(tmp_path / "a" / "x.txt", "two!")
    assert file_marks([str(tmp_path / "a")]) != before


def test_labelled_rows_are_held_out_or_read_from_their_own_file(tmp_path, world):
    train, test = read_labelled(world.labelled, inputs="text", held_out=0.25, seed=0)
    assert (len(train), len(test)) == (90, 30)
    assert not set(train.first) & set(test.first)
    for name, rows in (("train", 6), ("test", 3)):
        lines = [json.dumps({"text": f"t{n}", "label": n % 2}) for n in range(rows)]
        write_text(tmp_path / "set" / f"{name}.jsonl", "\n".join(lines) + "\n")
    train, test = read_labelled(tmp_path / "set", inputs="text", held_out=0.5, seed=0)
    assert (len(train), len(test)) == (6, 3)
    assert set(train.labels) == {"0", "1"}


def test_a_row_without_a_label_names_file_and_line(tmp_path):
    write_text(tmp_path / "x.jsonl", '{"text": "a", "label": "b"}\n{"text": "c"}\n')
    with pytest.raises(
        DataError, match=r"x.jsonl:2: expected a text and a label, found \['text'\]"
    ):
        read_labelled(tmp_path / "x.jsonl", inputs="text", held_out=0.5, seed=0)


def test_every_labelled_row_stands_in_one_batch_an_epoch():
    rows = LabelledRows([f"t{n}" for n in range(12)], [""] * 12, ["a", "b"] * 6)
    batches = LabelledBatches(rows, ["a", "b"], batch_size=4, seed=0)
    first = [text for step in range(3) for text in batches.batch(step).queries]
    second = [text for step in range(3, 6) for text in batches.batch(step).queries]
    assert sorted(first) == sorted(second) == sorted(rows.first)
    assert first != second
    batch = batches.batch(1)
    assert [["a", "b"][n] for n in batch.query_labels] == [
        rows.labels[int(row)] for row in batch.row_ids
    ]
    with pytest.raises(DataError, match="class 'b' is not among the labels: a"):
        LabelledBatches(rows, ["a"], batch_size=4, seed=0)


def test_a_teacher_is_asked_once_and_found_by_the_bare_texts(tmp_path):
    asked = [("q1", "d1"), ("q1", "n1"), ("q2", "d2")]
    calls = []

    def label(block):
        calls.append(list(block))
        return np.array([len(calls) * 10 + n for n in range(len(block))], dtype=np.float32)

    table = make_labels(iter(asked), label, tmp_path / "labels", total=3)
    again = make_labels(iter(asked), label, tmp_path / "labels", total=3)
    assert len(calls) == 1
    assert len(table) == len(again) == 3
    batch = Batch(
        step=0,
        source="s",
        queries=["ask: q2", "ask: q1"],
        positives=["d2", "d1"],
        negatives=[(), ("n1",)],
        row_ids=np.arange(2),
        row_sources=["s", "s"],
        query_prompt_characters=5,
    )
    found = TaughtScores(again)(batch)
    np.testing.assert_array_equal(found.scores, [12, 10])
    np.testing.assert_array_equal(found.negative_scores, [11])
    with pytest.raises(DataError, match="the teacher has no label for 'other'"):
        LabelTable(tmp_path / "labels").find([("q1", "other")])
    assert key_of(("a", "b")) != key_of(("ab", ""))


def test_labels_of_many_blocks_are_found_in_any_order_and_a_cut_block_is_made_again(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(teacher_labels, "BLOCK", 4)
    asked = [("q", f"d{n}") for n in range(11)]
    calls = []

    def label(block):
        calls.append(len(block))
        return np.array([[int(text[1:]), 0] for _, text in block], dtype=np.float32)

    make_labels(iter(asked), label, tmp_path, total=11)
    (tmp_path / "keys-000001.npy").unlink()  # killed between a block's two files
    table = make_labels(iter(asked), label, tmp_path, total=11)
    assert calls == [4, 4, 3, 4]
    order = [9, 0, 4, 10, 3, 4]
    assert table.find([asked[n] for n in order])[:, 0].tolist() == order


def test_a_teacher_of_embeddings_scores_as_one_that_is_asked_for_scores(tmp_path):
    encoder = HashEncoder(dimensions=16)
    batch = Batch(
        step=0,
        source="s",
        queries=["what is red", "what is blue", "what is green"],
        positives=["a red thing", "the blue sky", "grass"],
        negatives=[("a green thing", "the sky"), (), ("a red thing",)],
        row_ids=np.arange(3),
        row_sources=["s"] * 3,
    )
    rows = list(zip(batch.queries, batch.positives, batch.negatives, strict=True))
    texts = [("query", query) for query, _, _ in rows]
    texts += [("document", text) for _, positive, more in rows for text in (positive, *more)]
    pairs = [(query, text) for query, positive, more in rows for text in (positive, *more)]

    def table(name, asked, label):
        asked = list(dict.fromkeys(asked))
        return make_labels(iter(asked), label(encoder), tmp_path / name, total=len(asked))

    embeddings = table("embeddings", texts, label_embeddings)
    expected = TaughtScores(table("scores", pairs, label_similarities))(batch)
    found = TaughtEmbeddings(embeddings, with_scores=True)(batch)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(found.negative_scores, expected.negative_scores, atol=1e-6)
    np.testing.assert_array_equal(found.queries, encoder.encode(batch.queries, kind="query"))
    assert TaughtEmbeddings(embeddings)(batch).scores is None
