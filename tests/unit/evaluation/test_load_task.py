from __future__ import annotations

import gzip
import json

import pytest
import zstandard

from opengte.errors import ConfigError, DataError
from opengte.evaluation.load_task import load_task
from opengte.evaluation.tasks import (
    BitextTask,
    ClassificationTask,
    ClusteringTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
)

STS = [
    {"sentence1": "a", "sentence2": "b", "score": 2.5},
    {"sentence1": "c", "sentence2": "d", "score": 0},
]
NLI = [
    {"sentence1": "a", "sentence2": "b", "label": "entailment"},
    {"sentence1": "c", "sentence2": "d", "label": "neutral"},
    {"sentence1": "e", "sentence2": "f", "label": "contradiction"},
]
ANSWERS = [
    {"query": "q1", "answer": "good", "label": 1},
    {"query": "q1", "answer": "bad", "label": 0},
    {"query": "q2", "answer": "only bad", "label": 0},
]
LABELLED = [{"text": "hello", "label": "greet"}, {"text": "bye", "label": "leave"}]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "scifoo"
    write(
        folder / "corpus.jsonl",
        [
            {"_id": "d1", "title": "T", "text": "one", "metadata": {"group": "numpy"}},
            {"_id": "d2", "text": "two"},
        ],
    )
    write(
        folder / "queries.jsonl",
        [{"_id": "q1", "text": "?", "group": "g"}, {"_id": "q2", "text": "??"}],
    )
    (folder / "qrels").mkdir()
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n")
    (folder / "qrels/dev.tsv").write_text("q2\td2\t1\n")
    return folder


def test_beir_folder_is_retrieval_with_the_judged_queries_of_the_split(beir):
    task = load_task(beir)
    assert isinstance(task, RetrievalTask)
    assert (task.name, task.split, task.type) == ("scifoo", "test", "retrieval")
    assert [query.id for query in task.queries] == ["q1"]
    assert task.queries[0].group == "g"
    assert task.qrels == {"q1": {"d1": 2, "d2": 0}}
    assert [document.full_text for document in task.corpus] == ["T one", "two"]
    assert task.corpus[0].group == "numpy"
    assert [query.id for query in load_task(beir, split="dev").queries] == ["q2"]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [(STS, StsTask), (NLI, PairClassificationTask), (ANSWERS, RerankingTask)],
)
def test_fields_tell_the_kind(tmp_path, rows, kind):
    write(tmp_path / "mine" / "test.jsonl", rows)
    task = load_task(tmp_path / "mine")
    assert isinstance(task, kind)
    assert task.name == "mine"


def test_zero_and_one_scores_are_sts_unless_pair_classification_is_asked_for(tmp_path):
    rows = [{**row, "score": float(number)} for number, row in enumerate(STS)]
    write(tmp_path / "lcqmc" / "test.jsonl", rows)
    assert load_task(tmp_path / "lcqmc").type == "sts"
    task = load_task(tmp_path / "lcqmc", type="pair_classification")
    assert task.labels == [0, 1]


def test_neutral_pairs_are_left_out_and_counted(tmp_path):
    write(tmp_path / "ocnli" / "dev.jsonl", NLI)
    task = load_task(tmp_path / "ocnli")
    assert task.labels == [1, 0]
    assert task.split == "dev"
    assert task.notes == {"pairs that neither match nor contradict": 1}


def test_reranking_groups_by_query_and_drops_queries_that_order_nothing(tmp_path):
    write(tmp_path / "qa" / "test.jsonl", ANSWERS)
    task = load_task(tmp_path / "qa")
    assert task.queries == ["q1"]
    assert task.candidates == [["good", "bad"]]
    assert task.labels == [[1, 0]]
    assert task.notes == {"queries without both kinds of answers": 1}


def test_labelled_texts_are_classification_where_a_train_split_exists(tmp_path):
    write(tmp_path / "intents" / "test.jsonl", LABELLED)
    assert isinstance(load_task(tmp_path / "intents"), ClusteringTask)
    write(tmp_path / "intents" / "train.jsonl", LABELLED * 2)
    task = load_task(tmp_path / "intents")
    assert isinstance(task, ClassificationTask)
    assert len(task.train_texts) == 4
    assert isinstance(load_task(tmp_path / "intents", type="clustering"), ClusteringTask)
    assert isinstance(load_task(tmp_path / "intents" / "test.jsonl"), ClassificationTask)


def test_split_is_test_then_dev_then_the_only_one(tmp_path):
    write(tmp_path / "set" / "odd.jsonl", STS)
    assert load_task(tmp_path / "set").split == "odd"
    write(tmp_path / "set" / "train.jsonl", STS)
    with pytest.raises(DataError, match=r"neither test nor dev among the splits odd, train"):
        load_task(tmp_path / "set")
    write(tmp_path / "set" / "dev.jsonl", STS)
    assert load_task(tmp_path / "set").split == "dev"
    write(tmp_path / "set" / "test.jsonl", STS)
    assert load_task(tmp_path / "set").split == "test"
    assert load_task(tmp_path / "set", split="odd").split == "odd"
    with pytest.raises(DataError, match=r"no split 'all'; there are: dev, odd, test, train"):
        load_task(tmp_path / "set", split="all")


def test_one_file_is_named_after_itself_or_after_the_folder_of_its_split(tmp_path):
    write(tmp_path / "mine" / "test.jsonl", STS)
    write(tmp_path / "mine" / "special.jsonl", STS)
    assert load_task(tmp_path / "mine" / "test.jsonl").name == "mine"
    assert load_task(tmp_path / "mine" / "special.jsonl").name == "special"
    with pytest.raises(ConfigError, match=r"split 'dev' was asked for, but test.jsonl is one file"):
        load_task(tmp_path / "mine" / "test.jsonl", split="dev")


def test_tatoeba_folder_is_bitext_with_one_subset_a_language(tmp_path):
    folder = tmp_path / "tatoeba"
    folder.mkdir()
    for language in ("deu", "cmn"):
        with gzip.open(folder / f"{language}-eng.tsv.gz", "wt", encoding="utf-8") as stream:
            stream.write(f"{language} eins\tone\n{language} zwei\ttwo\n")
    task = load_task(folder)
    assert isinstance(task, BitextTask)
    assert task.subsets["deu-eng"] == (["deu eins", "deu zwei"], ["one", "two"])
    assert list(load_task(folder / "cmn-eng.tsv.gz").subsets) == ["cmn-eng"]


def test_compressed_lines_are_read(tmp_path):
    text = "".join(json.dumps(row) + "\n" for row in STS).encode()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "test.jsonl.zst").write_bytes(zstandard.compress(text))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "test.jsonl.gz").write_bytes(gzip.compress(text))
    assert load_task(tmp_path / "a").scores == load_task(tmp_path / "b").scores == [2.5, 0.0]


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("corpus.jsonl", "", r"corpus.jsonl: the corpus is empty"),
        ("corpus.jsonl", '{"_id": "d1"}\n', r"corpus.jsonl:1: no field 'text'; found: _id"),
        (
            "corpus.jsonl",
            '{"_id": "d1", "text": "x"}\n{"_id": "d1", "text": "y"}\n',
            r"corpus.jsonl:2: document id 'd1' stands here twice",
        ),
        ("corpus.jsonl", '{"_id": "d1", "text": 3}\n', r"field 'text' is a int, expected str"),
        ("queries.jsonl", "[]\n", r"queries.jsonl:1: expected an object, found a list"),
        ("queries.jsonl", "{nonsense\n", r"queries.jsonl:1: not JSON"),
        ("qrels/test.tsv", "q1\td9\t1\n", r"test.tsv:1: judges the document 'd9', which is not"),
        ("qrels/test.tsv", "q9\td1\t1\n", r"test.tsv:1: judges the query 'q9', which is not"),
        ("qrels/test.tsv", "a\tb\tc\nq1\td1\tx\n", r"test.tsv:2: expected query id, document id"),
        ("qrels/test.tsv", "q\td\tscore\n", r"test.tsv: there are no judgements here"),
    ],
)
def test_bad_beir_folder_is_refused_by_file_and_line(beir, file, content, text):
    (beir / file).write_text(content)
    with pytest.raises(DataError, match=text):
        load_task(beir)


def test_beir_folder_without_queries_or_judgements_is_refused(beir):
    (beir / "queries.jsonl").unlink()
    with pytest.raises(DataError, match=r"needs queries.jsonl beside its corpus"):
        load_task(beir)
    for path in (beir / "qrels").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no evaluation set here: expected corpus.jsonl"):
        load_task(beir)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"sentence1": "a", "sentence2": "b", "score": "high"}], "'score' is a str, expected int"),
        (
            [{"sentence1": "a", "sentence2": "b", "label": "maybe"}],
            "label 'maybe' is neither match",
        ),
        ([{"sentence1": "a", "sentence2": "b", "label": 3}], "label 3 is neither match"),
        ([{"query": "q", "answer": "a", "label": 1}], "no query has both a relevant and"),
        ([{"body": "a"}], r"test.jsonl:1: no known kind of task: .* found body"),
        ([], "there are no rows here"),
    ],
)
def test_bad_rows_are_refused(tmp_path, rows, text):
    write(tmp_path / "set" / "test.jsonl", rows)
    with pytest.raises(DataError, match=text):
        load_task(tmp_path / "set")


def test_label_that_training_never_saw_is_refused(tmp_path):
    write(tmp_path / "set" / "train.jsonl", LABELLED[:1])
    write(tmp_path / "set" / "test.jsonl", LABELLED)
    with pytest.raises(DataError, match="label 'leave' is not in the train split"):
        load_task(tmp_path / "set")


def test_binary_and_invalid_utf8_are_refused_by_line(tmp_path):
    (tmp_path / "set").mkdir()
    good = json.dumps(STS[0]).encode() + b"\n"
    (tmp_path / "set" / "test.jsonl").write_bytes(good + b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"test.jsonl:\d: cannot be read: .*utf-8"):
        load_task(tmp_path / "set")
    (tmp_path / "set" / "test.jsonl").unlink()
    (tmp_path / "set" / "test.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"test.jsonl.gz:1: cannot be read"):
        load_task(tmp_path / "set")
    (tmp_path / "set" / "test.jsonl.gz").rename(tmp_path / "set" / "test.jsonl.zst")
    with pytest.raises(DataError, match=r"test.jsonl.zst:1: cannot be read"):
        load_task(tmp_path / "set")


def test_bitext_line_without_one_tab_is_refused(tmp_path):
    (tmp_path / "deu-eng.tsv").write_text("eins\tone\nzwei two\n")
    with pytest.raises(DataError, match=r"deu-eng.tsv:2: expected two sentences .* found 1 cells"):
        load_task(tmp_path / "deu-eng.tsv")
    (tmp_path / "deu-eng.tsv").write_text("\n")
    with pytest.raises(DataError, match="there are no sentence pairs here"):
        load_task(tmp_path / "deu-eng.tsv")


def test_type_that_the_data_cannot_be_is_refused(beir):
    with pytest.raises(ConfigError, match=r"type 'sts' was asked for, but this is retrieval"):
        load_task(beir, type="sts")
    with pytest.raises(ConfigError, match=r"unknown task type 'ranking'; give one of retrieval"):
        load_task(beir, type="ranking")


def test_missing_and_foreign_paths_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load_task(tmp_path / "absent")
    with pytest.raises(DataError, match="no evaluation set here"):
        load_task(tmp_path)
    (tmp_path / "data.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"expected .jsonl or .tsv"):
        load_task(tmp_path / "data.csv")
