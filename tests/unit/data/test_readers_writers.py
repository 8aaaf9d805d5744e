from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.readers import read_beir, read_documents, read_pairs
from opengte.data.writers import write_beir, write_pairs
from opengte.errors import DataError
from opengte.records import Document, Pair, Query

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: t.strip())
labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
scores = st.floats(0, 1)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    negatives = tuple(draw(st.lists(texts, max_size=3)))
    teacher = [draw(st.floats(-9, 9)) for _ in negatives] if draw(st.booleans()) else []
    return Pair(
        draw(texts),
        draw(texts),
        negatives,
        draw(st.none() | scores),
        tuple(teacher),
        draw(labels),
        draw(labels),
        draw(texts),
    )


@settings(deadline=None)
@given(st.lists(pairs(), min_size=1, max_size=5), st.sampled_from(["", ".gz", ".zst"]))
def test_written_pairs_read_back_unchanged(given_pairs: list[Pair], suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"pairs.jsonl{suffix}"
        assert write_pairs(path, given_pairs) == len(given_pairs)
        assert list(read_pairs(path)) == given_pairs


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_equal_pairs_make_equal_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pairs(tmp_path / f"{name}.jsonl{suffix}", [Pair("q", "p")] * 100)
    first, second = (tmp_path / f"{name}.jsonl{suffix}" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.zst"
    write_pairs(path, [Pair("q", "p")])
    before = path.read_bytes()
    with pytest.raises(DataError, match="a score must be a finite number, got nan"):
        write_pairs(path, [Pair("q", "p"), Pair("q", "p", score=float("nan"))])
    with pytest.raises(DataError, match="lone surrogate"):
        write_pairs(path, [Pair("\ud800", "p")])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl.zst"]


def test_beir_folder_round_trip(tmp_path: Path) -> None:
    corpus = [Document("d1", "text\none", "Title", "g", "function", "a.py:3"), Document("d2", "二")]
    queries = [Query("q1", "first?", "pkg"), Query("q2", "second?")]
    qrels = {"test": {"q1": {"d1": 2, "d2": 0}}, "dev": {"q2": {"d2": 1}}}
    write_beir(tmp_path, corpus=corpus, queries=queries, qrels=qrels)
    for split in ("test", "dev"):
        read = read_beir(tmp_path, split)
        assert (read.corpus, read.queries, read.qrels) == (corpus, queries, qrels[split])
    assert read_beir(tmp_path).split == "test"
    assert list(read_documents(tmp_path)) == corpus
    pairs = list(read_pairs(tmp_path))
    assert [(p.query, p.positive, p.negatives) for p in pairs] == [
        ("first?", "Title text\none", ("二",))
    ]


def test_beir_writer_refuses_what_could_not_be_read_back(tmp_path: Path) -> None:
    one = Document("d", "t")
    with pytest.raises(DataError, match="the document id 'd' stands twice"):
        write_beir(tmp_path, corpus=[one, one], queries=[], qrels={})
    with pytest.raises(DataError, match=r"the query id 'a\\tb' cannot stand in a table"):
        write_beir(tmp_path, corpus=[one], queries=[Query("a\tb", "q")], qrels={})
    with pytest.raises(DataError, match="judges document 'x', which is not given"):
        write_beir(tmp_path, corpus=[one], queries=[Query("q", "q")], qrels={"t": {"q": {"x": 1}}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq d 1\n",
            r"test\.tsv:2: expected query-id",
        ),
        ("qrels/test.tsv", "q\tx\t1\n", "document 'x' is judged, but not in corpus.jsonl"),
        ("qrels/test.tsv", "x\td\t1\n", "query 'x' is judged, but not in queries.jsonl"),
        ("corpus.jsonl", '{"text": "t"}\n', r"corpus\.jsonl:1: no field '_id'"),
        ("corpus.jsonl", '{"_id": "d"}\n', r"corpus\.jsonl:1: no field 'text'"),
        ("queries.jsonl", '{"_id":"q","text":"a"}\n{"_id":"q","text":"b"}\n', "stands twice"),
    ],
)
def test_broken_beir_folder_names_the_place(
    file: str, content: str, message: str, tmp_path: Path
) -> None:
    write_beir(
        tmp_path,
        corpus=[Document("d", "t")],
        queries=[Query("q", "q")],
        qrels={"test": {"q": {"d": 1}}},
    )
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=message):
        read_beir(tmp_path)


def test_missing_parts_of_a_beir_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no qrels/\*\.tsv in this folder"):
        read_beir(tmp_path)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "dev.tsv").write_text("")
    with pytest.raises(DataError, match=r"no corpus\.jsonl in this folder"):
        read_beir(tmp_path)
    with pytest.raises(DataError, match=r"no split 'train'; found \['dev'\]"):
        read_beir(tmp_path, "train")


@pytest.mark.shared
def test_scifact_has_its_published_size(shared_data: Path) -> None:
    beir = read_beir(shared_data / "eval" / "scifact", "test")
    num_qrels = sum(len(judged) for judged in beir.qrels.values())
    assert (len(beir.corpus), len(beir.judged_queries), num_qrels) == (5183, 300, 339)
