"""``gte evaluate`` and ``gte leaderboard``, as people type them, with a tiny random model."""

from __future__ import annotations

import json
import re

import pytest

from opengte.cli.main import run
from opengte.evaluation.published_scores import published_scores

TOPICS = ("tea", "rain", "music", "bread", "trains", "chess")


@pytest.fixture
def gte(capsys):
    def call(*arguments, code=0):
        found = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert found == code, captured.err
        return captured.err if code else captured.out

    return call


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "topics"
    (folder / "qrels").mkdir(parents=True)
    rows = [
        {"_id": f"d{n}", "title": "", "text": f"a text about {topic}, number {n}"}
        for n, topic in enumerate(TOPICS * 4)
    ]
    asked = [{"_id": f"q{n}", "text": f"tell me about {t}"} for n, t in enumerate(TOPICS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    judged = [
        f"q{n}\td{m}\t1" for n in range(len(TOPICS)) for m in range(n, len(rows), len(TOPICS))
    ]
    lines = ["query-id\tcorpus-id\tscore", *judged]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def sts(tmp_path_factory):
    """As many pairs as STSBenchmark's test set, so that published scores fit."""
    folder = tmp_path_factory.mktemp("sets") / "stsbenchmark"
    folder.mkdir()
    rows = [
        {
            "sentence1": f"{TOPICS[n % 6]} on day {n % 97}",
            "sentence2": f"{TOPICS[n * 5 % 6]} on day {n % 89}",
            "score": n % 6,
        }
        for n in range(1379)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_retrievers_have_results_of_their_own(gte, tiny_model, retrieval, tmp_path):
    out = tmp_path / "out"
    printed = gte(
        *("evaluate", tiny_model, "--task", retrieval, "--retriever", "dense", "--quiet"),
        *("--retriever", "bm25", "--retriever", "hybrid", "--out", out),
        *("--json", tmp_path / "numbers.json"),
    )
    written = json.loads((out / "results.json").read_text())
    assert written == json.loads((tmp_path / "numbers.json").read_text())
    assert set(written["tasks"]) == {"topics/dense", "topics/bm25", "topics/hybrid"}
    words = written["tasks"]["topics/bm25"]
    assert words["main_metric"] == "ndcg@10"
    assert words["main_score"] == pytest.approx(1.0)
    assert f"topics/bm25 {words['main_score']:.4f}".split()[1] in printed
    for cell in written["tasks"].values():
        assert set(cell) >= {"type", "main_metric", "main_score", "ci95", "metrics"}
        assert cell["ci95"][0] <= cell["main_score"] <= cell["ci95"][1]
    assert written["tasks"]["topics/dense"]["num_tokens"] > 0
    values = json.loads((out / "per_query" / "topics" / "dense.json").read_text())
    assert len(values["metrics"]["ndcg@10"]) == len(TOPICS)
    (file,) = (out / "mteb" / "results").rglob("topics.json")
    scores = json.loads(file.read_text())["scores"]["test"][0]
    assert scores["ndcg_at_10"] == written["tasks"]["topics/dense"]["main_score"]


def test_other_kinds_are_measured_beside_named_retrievers(gte, tiny_model, retrieval, sts):
    printed = gte(
        *("evaluate", tiny_model, "--task", retrieval, "--task", sts, "--retriever", "bm25"),
        "--quiet",
    )
    assert re.search(r"^stsbenchmark +cosine_spearman +-?0\.\d{4} \[", printed, re.M)
    assert "topics/bm25" in printed


def test_published_scores_stand_beside_ours(gte, tiny_model, sts, tmp_path):
    printed = gte(
        *("evaluate", tiny_model, "--task", sts, "--compare", "--quiet"),
        *("--name", "all-MiniLM-L6-v2", "--json", tmp_path / "numbers.json"),
    )
    known = {
        (s.benchmark, s.model): s.score for s in published_scores() if s.task == "STSBenchmark"
    }
    line = next(line for line in printed.splitlines() if "<- the same model" in line)
    assert line.split()[0] == "0.8203"
    assert line.split()[2] == "sentence-transformers/all-MiniLM-L6-v2"
    written = json.loads((tmp_path / "numbers.json").read_text())
    ours = written["tasks"]["stsbenchmark"]["main_score"]
    assert len(written["published"]) == len(known)
    for row in written["published"]:
        assert row["score"] == known[row["benchmark"], row["model"]]
        assert row["difference"] == pytest.approx(ours - row["score"], abs=1e-6)


def test_a_set_without_published_score_says_so(gte, tiny_model, retrieval):
    printed = gte("evaluate", tiny_model, "--task", retrieval, "--compare", "--quiet")
    assert "no published score fits" in printed


def test_part_of_a_benchmark_is_not_called_its_score(gte, tiny_model, sts, retrieval, tmp_path):
    printed = gte(
        *("evaluate", tiny_model, "--benchmark", "MTEB(eng, v2)", "--task", sts, "--quiet"),
        *("--task", retrieval, "--out", tmp_path / "out"),
    )
    assert "1 of 41 tasks of MTEB(eng, v2): this is not its score" in printed
    assert "topics is no task of MTEB(eng, v2)" in printed
    assert json.loads((tmp_path / "out/results.json").read_text())["benchmark"] == "MTEB(eng, v2)"


def test_wrong_benchmark_and_missing_task_cost_nothing(gte, tiny_model, retrieval):
    unknown = ("evaluate", tiny_model, "--task", retrieval, "--benchmark", "MTEB(eng, v9)")
    assert "unknown benchmark 'MTEB(eng, v9)'; known are" in gte(*unknown, code=2)
    assert "give at least one --task PATH, or --benchmark NAME" in gte(
        "evaluate", "nowhere", code=2
    )
    assert "needs --out" in gte("evaluate", "nowhere", "--benchmark", "MTEB(eng, v2)", code=2)


def test_tasks_that_were_trained_on_are_marked_and_left_out_of_the_mean(
    gte, tiny_model, retrieval, sts, tmp_path
):
    pairs = tmp_path / "pairs.jsonl"
    asked = "tell me about tea"
    pairs.write_text(json.dumps({"query": asked, "positive": "a text about tea, number 0"}) + "\n")
    printed = gte(
        *("evaluate", tiny_model, "--task", retrieval, "--task", sts, "--quiet"),
        *("--trained-on", pairs, "--json", tmp_path / "numbers.json"),
    )
    tasks = json.loads((tmp_path / "numbers.json").read_text())["tasks"]
    assert tasks["topics"]["mark"] == "leaked"
    assert tasks["stsbenchmark"]["mark"] == "zero-shot"
    mean = tasks["stsbenchmark"]["main_score"]
    assert f"mean over 1 tasks: {mean:.4f}; 1 left out that the model was trained on" in printed


def test_a_pair_store_says_what_was_trained_on(gte, tiny_model, retrieval, tmp_path):
    pairs = tmp_path / "topics_train.jsonl"
    pairs.write_text(json.dumps({"query": "what is tea", "positive": "a warm drink"}) + "\n")
    gte("data", "build", pairs, "--out", tmp_path / "store", "--quiet", "--workers", "1")
    gte(
        *("evaluate", tiny_model, "--task", retrieval, "--trained-on", tmp_path / "store"),
        *("--quiet", "--json", tmp_path / "numbers.json"),
    )
    found = json.loads((tmp_path / "numbers.json").read_text())["tasks"]["topics"]
    assert found["mark"] == "in-domain train"  # its own train set, by name


def test_leaderboard_ranks_compares_and_writes_a_page(gte, tiny_model, retrieval, sts, tmp_path):
    both = ["--task", retrieval, "--task", sts, "--quiet"]
    gte("evaluate", tiny_model, *both, "--name", "whole", "--out", tmp_path / "runs" / "whole")
    gte(
        *("evaluate", tiny_model, *both, "--name", "cut", "--max-tokens", "8"),
        *("--out", tmp_path / "runs" / "cut", "--page", tmp_path / "cut.html"),
    )
    printed = gte(
        *("leaderboard", tmp_path / "runs", "--baseline", "cut", "--json", tmp_path / "board.json"),
        *("--page", tmp_path / "board.html"),
    )
    board = json.loads((tmp_path / "board.json").read_text())
    rows = {row["model"]: row for row in board["rows"]}
    assert board["counted"] == ["topics", "stsbenchmark"]
    for name, row in rows.items():
        own = json.loads((tmp_path / "runs" / name / "results.json").read_text())["tasks"]
        assert row["mean_task"] == pytest.approx(
            (own["topics"]["main_score"] + own["stsbenchmark"]["main_score"]) / 2
        )
    assert sum(row["borda"] for row in rows.values()) == 2
    assert [c["task"] for c in board["comparisons"]["whole"]] == ["topics", "stsbenchmark"]
    for row in board["comparisons"]["whole"]:
        assert row["ci95"][0] <= row["difference"] <= row["ci95"][1]
        assert row["difference"] == pytest.approx(row["a"] - row["b"])
    assert "whole against cut: paired, queries only" in printed
    for page in ("board.html", "cut.html"):
        assert "tell me about tea" in (tmp_path / page).read_text()


def test_leaderboard_refuses_what_it_cannot_rank(gte, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no results.json here; write one with: gte evaluate" in gte(
        "leaderboard", tmp_path / "empty", code=2
    )


def test_leaderboard_never_mixes_versions_of_a_benchmark(gte, tiny_model, sts, tmp_path):
    for number, version in enumerate(("MTEB(eng, v1)", "MTEB(eng, v2)")):
        gte(
            *("evaluate", tiny_model, "--task", sts, "--quiet", "--benchmark", version),
            *("--out", tmp_path / str(number)),
        )
    message = gte("leaderboard", tmp_path / "0", tmp_path / "1", code=2)
    assert "versions of a benchmark are never mixed" in message
    printed = gte(
        *("leaderboard", tmp_path / "0", "--published"),
        "sentence-transformers/all-MiniLM-L6-v2",
    )
    assert "0.8203" in printed
