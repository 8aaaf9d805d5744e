"""``gte synthesize``, as people type it, against an endpoint that misbehaves."""

from __future__ import annotations

import itertools
import json
import threading

import pytest

from opengte.cli import synthesize as command_module
from opengte.cli.main import run
from opengte.runtime.hashed import HashEncoder

SUBJECTS = ("Otter", "Lighthouse", "Marmalade", "Typhoon", "Cello", "Glacier")


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "documents.jsonl"
    rows = [
        {"_id": f"d{n}", "text": f"{name} in a few plain words."} for n, name in enumerate(SUBJECTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def honest(reply):
    """Answers that ask for the document's subject; ``queries`` of them."""

    def answer(request):
        text = request.payload["messages"][1]["content"]
        name = next(name for name in SUBJECTS if f"{name} in a few" in text)
        queries = [f"who would tell me of {name.lower()}", f"the {name.lower()} and its friends"]
        content = json.dumps({"queries": queries})
        usage = {"prompt_tokens": 50, "completion_tokens": 10}
        return reply(
            {
                "choices": [{"message": {"content": content}, "finish_reason": "stop"}],
                "usage": usage,
            }
        )

    return answer


def synthesize(endpoint, documents, out, *more):
    arguments = ["synthesize", str(documents), "--llm", endpoint.url, "--llm-model", "tiny"]
    return run([*arguments, "--out", str(out), "--quiet", *more])


def test_pairs_report_and_prompts_are_left(endpoint, honest, documents, tmp_path, capsys):
    endpoint.answer = honest
    out = tmp_path / "out"
    assert synthesize(endpoint, documents, out, "--queries", "2", "--json", f"{out}.json") == 0
    rows = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert {row["made"]["model"] for row in rows} == {"tiny"}
    prompts = {prompt for row in rows for prompt in row["made"]["prompts"]}
    assert prompts
    assert list((out / "prompts").glob("*.yaml"))
    report = json.loads((tmp_path / "out.json").read_text())
    assert report == json.loads((out / "report.json").read_text())
    assert (report["num_pairs"], report["num_requests"]) == (12, 6)
    printed = capsys.readouterr().out
    assert "12 pairs of 12 drafts from 6 documents, by gpl with tiny" in printed


def test_trouble_costs_no_pair(endpoint, honest, reply, documents, tmp_path, capsys):
    endpoint.answer = honest
    assert synthesize(endpoint, documents, tmp_path / "expected", "--queries", "2") == 0
    troubles = itertools.cycle(
        [
            lambda request: reply(b"slow down", 429, {"Retry-After": "0"}),
            honest,
            lambda request: reply(b"<html>bad gateway</html>", 502),
            lambda request: reply(b"x", cut_after=0),
            honest,
            honest,
        ]
    )
    lock = threading.Lock()

    def answer(request):
        with lock:
            trouble = next(troubles)
        return trouble(request)

    endpoint.answer = answer
    assert synthesize(endpoint, documents, tmp_path / "out", "--queries", "2") == 0
    written = (tmp_path / "out" / "pairs.jsonl").read_bytes()
    assert written == (tmp_path / "expected" / "pairs.jsonl").read_bytes()


def test_a_refusal_is_one_line_and_the_same_command_goes_on(
    endpoint, honest, reply, documents, tmp_path, capsys
):
    count = itertools.count()
    lock = threading.Lock()

    def dying(request):
        with lock:
            number = next(count)
        if number < 3:
            return honest(request)
        return reply({"error": {"message": "the key has expired"}}, 401)

    endpoint.answer = dying
    assert synthesize(endpoint, documents, tmp_path / "out", "--workers", "1") == 2
    message = capsys.readouterr().err
    assert "the key has expired" in message
    assert "3 of 6 pieces of work are kept, the same command goes on" in message
    endpoint.requests.clear()
    endpoint.answer = honest
    assert synthesize(endpoint, documents, tmp_path / "out", "--workers", "1") == 0
    assert len(endpoint.requests) == 3


def test_a_spent_budget_stops_and_says_so(endpoint, honest, documents, tmp_path, capsys):
    endpoint.answer = honest
    limits = ("--workers", "1", "--max-cost", "0.00012", "--prices", "1", "1")
    assert synthesize(endpoint, documents, tmp_path / "out", *limits) == 0
    assert len(endpoint.requests) == 2  # 60 tokens at a millionth each
    assert "stopped early: max_cost of 0.00012 is spent" in capsys.readouterr().out


def test_pairs_that_are_not_alike_are_dropped(endpoint, honest, documents, tmp_path, monkeypatch):
    monkeypatch.setattr(command_module, "open_model", lambda *_, **__: HashEncoder(64))
    endpoint.answer = honest
    options = ("--min-cosine", "0.99", "--model", "somewhere", "--json", f"{tmp_path}/report.json")
    assert synthesize(endpoint, documents, tmp_path / "out", *options) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["num_pairs"] == 0
    assert report["num_drafts"] > 0
    assert report["cosine_quantiles"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--min-cosine", "0.7"), "--min-cosine needs --model"),
        (("--queries", "2", "--method", "crafted"), "--queries is for gpl and persona"),
        (("--max-cost", "1"), "max_cost needs input_price and output_price"),
    ],
)
def test_contradicting_options_are_told_before_anything_is_asked(
    endpoint, documents, tmp_path, capsys, options, message
):
    assert synthesize(endpoint, documents, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not endpoint.requests
