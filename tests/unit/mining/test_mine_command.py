"""``gte mine``, as people type it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from opengte.cli.main import run

TOPICS = ("otter", "lighthouse", "marmalade", "typhoon", "cello", "glacier")


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {
            "query": f"what does the {topic} do on day {n}",
            "positive": f"On day {n} the {topic} rests, says report {n} about the {topic}.",
            "group": topic,
            "origin": f"{topic}.md:{n}",
        }
        for n in range(8)
        for topic in TOPICS
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mine(capsys, pairs, out, *more, code=0):
    found = run(["mine", str(pairs), "--out", str(out), "--quiet", *map(str, more)])
    captured = capsys.readouterr()
    assert found == code, captured.err
    return captured.err if code else captured.out


def rows_of(out):
    return [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]


def test_every_pair_gets_negatives_and_the_report_says_why_not(capsys, pairs, tmp_path):
    out = tmp_path / "out"
    printed = mine(capsys, pairs, out, "--negatives", 3, "--perc-pos", 0, "--json", f"{out}.json")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report == json.loads((out / "report.json").read_text())
    rows = rows_of(out)
    assert len(rows) == 48
    assert all(len(row["negatives"]) == 3 for row in rows)
    assert all(row["positive"] not in row["negatives"] for row in rows)
    assert printed.splitlines()[-1] == str(out / "pairs.jsonl")


def test_rules_of_the_command_line_are_the_rules_of_the_run(capsys, pairs, tmp_path):
    options = ["--not-same-source", "--keep-answers", "--near-duplicate", 0, "--perc-pos", 0]
    options += ["--margin", 0.5, "--max-score", 99, "--top-k", 4, "--sampling", "random"]
    mine(capsys, pairs, tmp_path / "out", *options, "--negatives", 2, "--seed", 7)
    rules = json.loads((tmp_path / "out" / "mining.json").read_text())["rules"]
    assert rules["exclude_same_source"]
    assert not rules["exclude_same_group"]
    assert not rules["exclude_answers"]
    assert (rules["near_duplicate"], rules["perc_pos"]) == (None, None)
    assert (rules["absolute_margin"], rules["max_score"], rules["top_k"]) == (0.5, 99, 4)
    assert (rules["num_negatives"], rules["sampling"], rules["seed"]) == (2, "random", 7)
    for row in rows_of(tmp_path / "out"):
        assert not [text for text in row["negatives"] if row["group"] in text]


def test_two_processes_leave_the_bytes_of_one(capsys, pairs, tmp_path):
    mine(capsys, pairs, tmp_path / "one")
    mine(capsys, pairs, tmp_path / "two", "--processes", 2)
    for name in ("pairs.jsonl", "report.json", "mining.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_negatives_come_from_the_corpus_that_is_given(capsys, pairs, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    texts = [f"The {topic} on any day at all" for topic in TOPICS]
    lines = [json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts)]
    corpus.write_text("".join(lines))
    mine(capsys, pairs, tmp_path / "out", "--corpus", corpus, "--negatives", 2)
    assert {text for row in rows_of(tmp_path / "out") for text in row["negatives"]} <= set(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--first-rank", "9", "--last-rank", "3"), "rank window must satisfy"),
        (("--bm25-weight", "0.3"), "--bm25-weight needs --model"),
        (("--model", "nowhere/at/all"), "nowhere/at/all"),
        (("--corpus", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--bm25-tokenizer", "klingon"), "klingon"),
    ],
)
def test_what_cannot_work_is_one_line(capsys, pairs, tmp_path, options, message):
    assert message in mine(capsys, pairs, tmp_path / "out", *options, code=2)


def the_line(message):
    """What stands on standard error is one line."""
    (line,) = message.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("what", ["corpus", "pairs"])
def test_an_empty_corpus_is_one_line(capsys, pairs, tmp_path, what):
    nothing = tmp_path / "nothing.jsonl"
    nothing.write_text("")
    if what == "corpus":
        message = mine(capsys, pairs, tmp_path / "out", "--corpus", nothing, code=2)
    else:
        message = mine(capsys, nothing, tmp_path / "out", code=2)
    assert "nothing.jsonl: " in the_line(message)
    assert not (tmp_path / "out" / "pairs.jsonl").exists()


def test_a_teacher_of_another_dimension_is_one_line_and_what_was_embedded_stays(
    capsys, pairs, tmp_path, endpoint, reply
):
    sizes = iter([8, 8, 5])

    def vectors(request):
        size, texts = next(sizes, 8), request.payload["input"]
        rows = [np.random.default_rng(len(text)).normal(size=size).tolist() for text in texts]
        return reply({"data": [{"index": n, "embedding": row} for n, row in enumerate(rows)]})

    endpoint.answer = vectors
    teacher = ("--model", f"{endpoint.url}#tiny", "--perc-pos", 0)
    message = mine(capsys, pairs, tmp_path / "out", *teacher, code=2)
    assert "gave vectors of 5 dimensions, but 8 before" in the_line(message)
    assert not (tmp_path / "out" / "pairs.jsonl").exists()
    mine(capsys, pairs, tmp_path / "out", *teacher)
    assert len(rows_of(tmp_path / "out")) == 48


def test_an_endpoint_that_dies_half_way_is_named_and_the_same_command_goes_on(
    capsys, pairs, tmp_path, endpoint, reply
):
    answered = []

    def vectors(request):
        texts = request.payload["input"]
        texts = [texts] if isinstance(texts, str) else texts
        if len(answered) >= 2 and answered[0] != "alive":
            return reply({"error": {"message": "out of memory"}}, 400)
        answered.append("more")
        rows = [np.random.default_rng(len(text)).normal(size=8).tolist() for text in texts]
        data = [{"index": n, "embedding": row} for n, row in enumerate(rows)]
        return reply({"data": data, "model": "tiny", "usage": {"prompt_tokens": 1}})

    endpoint.answer = vectors
    message = mine(
        capsys, pairs, tmp_path / "out", "--model", f"{endpoint.url}#tiny", "--perc-pos", 0, code=2
    )
    assert "out of memory" in the_line(message)
    answered[0] = "alive"
    mine(capsys, pairs, tmp_path / "out", "--model", f"{endpoint.url}#tiny", "--perc-pos", 0)
    assert len(rows_of(tmp_path / "out")) == 48
