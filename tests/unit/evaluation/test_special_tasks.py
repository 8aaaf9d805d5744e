"""Summaries, code search, instructions, long documents."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from opengte.errors import ConfigError, DataError
from opengte.evaluation import EvaluationConfig, evaluate, load_task
from opengte.evaluation.code_search import candidate_pools
from opengte.evaluation.instruction_following import p_mrr
from opengte.evaluation.long_documents import (
    best_chunk_search,
    chunk_documents,
    passkey_task,
    score_by_length,
)
from opengte.evaluation.retrieval import RetrievalConfig
from opengte.evaluation.tasks import (
    CodeSearchTask,
    InstructionTask,
    RetrievalTask,
    SummarisationTask,
)
from opengte.records import Document, Query
from opengte.runtime.hashed import HashEncoder
from opengte.text.tokenizer import Tokenizer

CORPUS = [
    Document(id=f"d{n}", text=f"function number {n} does thing {n * 7 % 30}") for n in range(30)
]


@pytest.fixture
def encoder():
    return HashEncoder(128)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_summaries_like_peoples_own_order_as_people_do(encoder):
    task = SummarisationTask(
        name="s",
        human=[["the cat sat on the mat", "a cat sits"], ["rain falls in spring"]],
        machine=[
            ["the cat sat on the mat", "the cat sat", "unrelated words"],
            ["spring rain falls", "rain", "summer heat"],
        ],
        scores=[[5.0, 3.0, 1.0], [4.0, 2.0, 1.0]],
    )
    result = evaluate(encoder, task)
    assert result.main_metric == "cosine_spearman"
    assert result.per_query["cosine_spearman"]["0"] == pytest.approx(1.0)
    assert result.main_score > 0.8


def test_texts_whose_summaries_score_alike_are_left_out(encoder):
    task = SummarisationTask(
        name="s",
        human=[["a b c"], ["a b c"]],
        machine=[["a b", "x y"], ["a b", "x y"]],
        scores=[[1.0, 1.0], [2.0, 1.0]],
    )
    result = evaluate(encoder, task)
    assert result.num_items == 1
    with pytest.raises(DataError, match="all summaries of each text score alike"):
        evaluate(
            encoder,
            SummarisationTask(name="s", human=[["a"]], machine=[["b", "c"]], scores=[[1.0, 1.0]]),
        )


def test_summaries_are_read_from_mteb_fields(tmp_path):
    row = {
        "text": "t",
        "human_summaries": ["h"],
        "machine_summaries": ["m1", "m2"],
        "relevance": [1, 2.5],
    }
    write(tmp_path / "sum" / "test.jsonl", [row])
    assert load_task(tmp_path / "sum").scores == [[1.0, 2.5]]
    write(tmp_path / "sum" / "test.jsonl", [{**row, "relevance": [1]}])
    with pytest.raises(DataError, match=r"test.jsonl:1: .* found 1 scores for 2 summaries"):
        load_task(tmp_path / "sum")


@pytest.fixture
def code_task():
    return CodeSearchTask(
        name="code",
        corpus=CORPUS,
        queries=[Query(id=f"q{n}", text=f"thing {n * 7 % 30}") for n in range(0, 30, 3)],
        qrels={f"q{n}": {f"d{n}": 1} for n in range(0, 30, 3)},
        num_candidates=5,
    )


def test_candidate_pools_hold_the_code_and_the_same_others_each_time(code_task):
    pools = candidate_pools(code_task)
    assert pools == candidate_pools(code_task)
    for query, pool in pools.items():
        assert len(pool) == 5
        assert f"d{query[1:]}" in pool
    assert len({frozenset(pool) for pool in pools.values()}) > 5


def test_code_search_gives_both_pools_and_few_candidates_are_easier(encoder, code_task):
    config = EvaluationConfig(retrieval=RetrievalConfig(tokenizer="code"))
    result = evaluate(encoder, code_task, retrievers=("dense", "bm25", "hybrid"), config=config)
    for found in result.by_retriever.values():
        assert found.main_metric == "mrr"
        assert found.metrics["mrr_candidates"] >= found.metrics["mrr"] > 0
        full, few = found.per_query["mrr"], found.per_query["mrr_candidates"]
        assert all(few[query] >= full[query] for query in full)


def test_code_search_is_read_when_asked_for(tmp_path):
    write(tmp_path / "c" / "corpus.jsonl", [{"_id": "1", "text": "def f(): pass"}])
    write(tmp_path / "c" / "queries.jsonl", [{"_id": "q", "text": "f"}])
    (tmp_path / "c" / "qrels").mkdir()
    (tmp_path / "c" / "qrels" / "test.tsv").write_text("q\t1\t1\n")
    assert load_task(tmp_path / "c").type == "retrieval"
    task = load_task(tmp_path / "c", type="code_search")
    assert isinstance(task, CodeSearchTask)
    assert task.num_candidates == 1000


def test_only_candidates_are_ranked(encoder):
    task = RetrievalTask(
        name="r",
        corpus=CORPUS,
        queries=[Query(id="q", text="thing 7")],
        qrels={"q": {"d1": 1}},
        candidates={"q": ["d5", "d9", "d1"]},
    )
    found = evaluate(encoder, task, retrievers=("dense", "bm25", "hybrid")).by_retriever
    for result in found.values():
        assert result.metrics["recall@10"] == 1.0
        assert result.metrics["precision@10"] == pytest.approx(0.1)
    assert found["dense"].metrics["mrr"] >= 1 / 3


def test_p_mrr_equals_followir():
    from mteb._evaluators.retrieval_metrics import calculate_pmrr

    rng = np.random.default_rng(0)
    names = [f"d{n}" for n in range(12)]
    before, after, changed = {}, {}, {}
    for query in ("a", "b", "c"):
        before[query] = {name: float(rng.integers(0, 6)) for name in names[:10]}
        after[query] = {name: float(rng.integers(0, 6)) for name in names[2:]}
        changed[query] = list(rng.choice(names, size=3, replace=False))
    expected = calculate_pmrr(
        {f"{q}-og": run for q, run in before.items()},
        {f"{q}-changed": run for q, run in after.items()},
        changed,
    )
    assert np.mean(list(p_mrr(before, after, changed).values())) == pytest.approx(expected)


def test_p_mrr_is_positive_when_changed_documents_fall():
    up = {"q": {"x": 3.0, "y": 2.0, "z": 1.0}}
    down = {"q": {"x": 1.0, "y": 2.0, "z": 3.0}}
    assert p_mrr(up, down, {"q": ["x"]})["q"] == pytest.approx(1 - 1 / 3)
    assert p_mrr(down, up, {"q": ["x"]})["q"] == pytest.approx(1 / 3 - 1)
    assert p_mrr(up, up, {"q": ["x"]})["q"] == 0.0


@pytest.fixture
def instruction_folder(tmp_path):
    folder = tmp_path / "follow"
    write(folder / "corpus.jsonl", [{"_id": d.id, "text": d.text} for d in CORPUS])
    write(
        folder / "queries.jsonl",
        [
            {"_id": "1-og", "text": "function", "instruction": "number 3 or 4"},
            {"_id": "1-changed", "text": "function", "instruction": "number 4 only"},
        ],
    )
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(
        "1-og\td3\t1\n1-og\td4\t1\n1-changed\td3\t0\n1-changed\td4\t1\n"
    )
    return folder


def test_instructions_follow_the_query_and_changes_are_found_in_the_judgements(instruction_folder):
    task = load_task(instruction_folder)
    assert isinstance(task, InstructionTask)
    assert task.queries[0].text == "function number 3 or 4"
    assert task.changed == {"1": ["d3"]}
    write(instruction_folder / "qrel_diff.jsonl", [{"query-id": "1", "corpus-ids": ["d5"]}])
    write(instruction_folder / "top_ranked.jsonl", [{"query-id": "1-og", "corpus-ids": ["d3"]}])
    task = load_task(instruction_folder)
    assert task.changed == {"1": ["d5"]}
    assert task.candidates == {"1-og": ["d3"]}
    assert load_task(instruction_folder, type="retrieval").type == "retrieval"


def test_side_file_that_names_an_unknown_document_is_refused(instruction_folder):
    write(instruction_folder / "top_ranked.jsonl", [{"query-id": "1-og", "corpus-ids": ["d99"]}])
    with pytest.raises(DataError, match=r"top_ranked.jsonl:1: names the document 'd99'"):
        load_task(instruction_folder)


def test_following_an_instruction_gives_a_positive_p_mrr(encoder, instruction_folder):
    result = evaluate(encoder, load_task(instruction_folder))
    assert result.main_metric == "p-mrr"
    assert result.main_score > 0
    assert {"og_map", "changed_ndcg@5"} <= set(result.metrics)


def test_variants_of_an_instruction_are_judged_by_the_worst(encoder):
    task = InstructionTask(
        name="i",
        corpus=CORPUS,
        queries=[Query(id="a_1", text=CORPUS[3].text), Query(id="a_2", text="nothing alike")],
        qrels={"a_1": {"d3": 1}, "a_2": {"d3": 1}},
    )
    result = evaluate(encoder, task)
    assert result.main_metric == "robustness@10"
    assert result.main_score == pytest.approx(min(result.per_query["ndcg@10"].values()))


def test_best_chunk_search_equals_loops():
    rng = np.random.default_rng(0)
    starts = np.array([0, 2, 3, 7, 8, 12])
    chunks = rng.integers(-2, 3, size=(12, 3)).astype(np.float32)
    queries = rng.integers(-2, 3, size=(70, 3)).astype(np.float32)
    for query, (scores, rows) in zip(
        queries, best_chunk_search(queries, chunks, starts, 3), strict=True
    ):
        best = [max(chunks[a:b] @ query) for a, b in itertools.pairwise(starts)]
        order = sorted(range(5), key=lambda row: (-best[row], row))[:3]
        assert rows.tolist() == order
        assert scores.tolist() == [best[row] for row in order]


def test_answer_behind_the_cut_is_found_by_its_piece(minilm_folder):
    tokenizer = Tokenizer.from_folder(minilm_folder)

    class Short(HashEncoder):
        pass

    short = Short(128, max_tokens=40)
    task = passkey_task(300, num_documents=30, num_queries=20)
    cut = evaluate(short, task)
    assert cut.truncated_share > 0.5
    config = EvaluationConfig(retrieval=RetrievalConfig(chunk_tokens=40))
    with pytest.raises(ConfigError, match="Short has none"):
        evaluate(short, task, config=config)
    short.tokenizer = tokenizer
    pieces = evaluate(short, task, config=config)
    assert pieces.metrics["hit@1"] > cut.metrics["hit@1"] + 0.5


def test_every_document_keeps_at_least_one_piece(minilm_folder):
    tokenizer = Tokenizer.from_folder(minilm_folder)
    chunks, starts = chunk_documents(["", "one two " * 30, "x"], tokenizer, max_tokens=12)
    assert np.diff(starts).min() == 1
    assert starts[-1] == len(chunks) > 4


def test_passkeys_differ_in_one_line_and_have_the_asked_length():
    task = passkey_task(256, seed=3)
    assert len(task.corpus) == 100
    assert len(task.queries) == 50
    assert {len(document.text.split()) for document in task.corpus} == {256}
    name = task.queries[0].text.removeprefix("What is the passkey for ").rstrip("?")
    (relevant,) = task.qrels[task.queries[0].id]
    assert [document.id for document in task.corpus if name in document.text] == [relevant]
    assert passkey_task(256, seed=3) == task
    with pytest.raises(ConfigError, match="passkey task needs num_queries <= num_documents"):
        passkey_task(256, num_documents=10, num_queries=11)


def test_scores_are_sliced_by_the_length_of_the_answer():
    task = RetrievalTask(
        name="r",
        corpus=[Document(id="s", text="a " * 10), Document(id="l", text="a " * 500)],
        queries=[],
        qrels={"1": {"s": 1}, "2": {"l": 1}, "3": {"l": 2, "s": 0}, "4": {"s": 0}},
    )
    slices = score_by_length(task, {"1": 1.0, "2": 0.5, "3": 0.0, "4": 0.3}, bounds=(100, 1000))
    assert slices == {"0-99": (1, 1.0), "100-999": (2, 0.25)}
