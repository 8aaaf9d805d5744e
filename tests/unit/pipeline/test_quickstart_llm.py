"""``gte quickstart --llm URL``: a language model writes queries for training documents."""

from __future__ import annotations

import functools
import json
import re
import threading

import pytest

from opengte.cli.main import run
from opengte.data.readers import read_pairs
from opengte.pipeline import execute as execute_module

SETTINGS = (
    "stages.corpus.packages=[]",
    "stages.corpus.standard_library=false",
    "stages.corpus.test_queries=12",
    "stages.corpus.dev_queries=12",
    "stages.corpus.pool_documents=40",
    "stages.corpus.dev_pool_documents=40",
    "stages.baseline.general=false",
    "stages.stage1.general=false",
    "stages.pretrain.max_training_tokens=4000",
    "stages.pretrain.training.precision=float32",
    "stages.mine.max_queries=20",
    "stages.mine.rules.perc_pos=1",
    "backbone.max_tokens=32",
)


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {
            "query": f"w{n % 40} w{n * 7 % 40} w{n * 3 % 40}",
            "positive": f"w{40 + n % 40} w{40 + n * 7 % 40} w{80 + n * 3 % 40} w{n % 39} w{n % 37}",
            "group": f"part{n % 15}",
        }
        for n in range(150)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def quickstart(monkeypatch, tiny_model, pairs, tmp_path):
    """The command, stopped after mining: what follows does not look at where pairs come from."""
    stopped = functools.partial(execute_module.execute, until="mine")
    monkeypatch.setattr(execute_module, "execute", stopped)

    def call(*more):
        arguments = ["quickstart", "--data", pairs, "--model", tiny_model, "--quiet"]
        arguments += ["--out", tmp_path / "out"]
        for setting in SETTINGS:
            arguments += ["--set", setting]
        return run([str(argument) for argument in [*arguments, *more]])

    return call


def stage_facts(out, name):
    return json.loads((out / "stages" / name / "stage.json").read_text())["facts"]


def test_made_pairs_join_the_corpus_in_training_and_mining(
    quickstart, endpoint, reply, tmp_path, capsys
):
    troubles = [reply(b"slow down", 429, {"Retry-After": "0"}), reply(b"x", cut_after=0)]
    lock = threading.Lock()

    def answer(request):
        with lock:
            if troubles:
                return troubles.pop()
        text = request.payload["messages"][1]["content"]
        words = re.findall(r"\bw\d+\b", text)
        content = json.dumps({"queries": [f"which one has {words[-1]} beside {words[0]}"]})
        usage = {"prompt_tokens": 50, "completion_tokens": 10}
        message = {"message": {"content": content}, "finish_reason": "stop"}
        return reply({"choices": [message], "usage": usage})

    endpoint.answer = answer
    options = ("--llm", endpoint.url, "--llm-model", "tiny", "--llm-documents", "9")
    assert quickstart(*options) == 0, capsys.readouterr().err
    out = tmp_path / "out"
    corpus = list(read_pairs(out / "data" / "train.jsonl"))
    joined = list(read_pairs(out / "stages" / "synthesize" / "output" / "train.jsonl"))
    made = joined[len(corpus) :]
    assert [pair.query for pair in joined[: len(corpus)]] == [pair.query for pair in corpus]
    assert stage_facts(out, "synthesize")["num_pairs"] == len(made) > 0
    assert {pair.positive for pair in made} <= {pair.positive for pair in corpus}
    assert all("which one has" in pair.query for pair in made)
    mined = list(read_pairs(out / "stages" / "mine" / "output" / "train.jsonl"))
    assert {pair.query for pair in mined} <= {pair.query for pair in joined}

    asked = len(endpoint.requests)
    assert quickstart(*options) == 0
    assert len(endpoint.requests) == asked  # everything is kept


def test_without_an_endpoint_nothing_is_asked(quickstart, endpoint, tmp_path):
    assert quickstart() == 0
    assert not (tmp_path / "out" / "stages" / "synthesize").exists()
    assert not endpoint.requests


def test_a_refusal_of_the_endpoint_is_one_line(quickstart, endpoint, reply, capsys):
    endpoint.answer = lambda request: reply({"error": {"message": "no such model: tiny"}}, 404)
    assert quickstart("--llm", endpoint.url, "--llm-model", "tiny") == 2
    assert "no such model: tiny" in capsys.readouterr().err


def test_url_and_model_belong_together(quickstart, endpoint, capsys):
    assert quickstart("--llm", endpoint.url) == 2
    assert "--llm URL and --llm-model NAME belong together" in capsys.readouterr().err
