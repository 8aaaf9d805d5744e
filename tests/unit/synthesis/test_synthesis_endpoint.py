"""Synthesis against an endpoint that misbehaves: nothing lost, nothing paid twice, clear errors."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from opengte.errors import DataError, EndpointError, StorageError
from opengte.http_client import HttpConfig
from opengte.llm import ChatClient, ChatConfig
from opengte.records import Document
from opengte.synthesis import journal as journal_module
from opengte.synthesis.config import GplConfig, PersonaConfig, SynthesisConfig
from opengte.synthesis.journal import Journal
from opengte.synthesis.run import synthesize

DOCUMENTS = [Document(id=f"d{i}", text=f"Subject{i} in a few plain words.") for i in range(12)]
CONFIG = SynthesisConfig(method=GplConfig(queries_per_document=1), num_workers=3)


def said(content: str) -> Any:
    usage = {"prompt_tokens": 50, "completion_tokens": 10}
    return {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "usage": usage}


def honest(request: Any) -> Any:
    """The answer to a GPL prompt: a query that names the document's subject."""
    text = request.payload["messages"][1]["content"]
    subject = next(d.text.split()[0] for d in reversed(DOCUMENTS) if d.text in text)
    return said(json.dumps({"queries": [f"tell me of {subject.lower()}"]}))


def client(endpoint: Any, clock: Any, *, max_retries: int = 4, **settings: Any) -> ChatClient:
    http = HttpConfig(
        url=endpoint.url, timeout_seconds=2, max_retries=max_retries, first_wait_seconds=0.01
    )
    return ChatClient(ChatConfig(**{"http": http, "model": "tiny", **settings}), clock=clock)


@pytest.fixture
def expected(endpoint: Any, clock: Any, reply: Any, tmp_path: Path) -> bytes:
    """The pairs that an endpoint which behaves leads to."""
    endpoint.answer = lambda request: reply(honest(request))
    synthesize(DOCUMENTS, client(endpoint, clock), CONFIG, folder=tmp_path / "expected")
    endpoint.requests.clear()
    return (tmp_path / "expected" / "pairs.jsonl").read_bytes()


def test_every_misbehaviour_at_once_loses_nothing(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path, expected: bytes
) -> None:
    troubles = itertools.cycle(
        [
            lambda request: reply(b"slow down", 429, {"Retry-After": "3"}),
            lambda request: reply(honest(request)),
            lambda request: reply(said("I am sorry, I would rather chat.")),
            lambda request: reply(honest(request), cut_after=20),
            lambda request: reply(b"<html>bad gateway</html>", 502),
            lambda request: reply(said('{"queries": []}')),
            lambda request: reply(honest(request), delay_seconds=0.05),
            lambda request: reply(b"x", cut_after=0),
            lambda request: reply(said('```json\n{"queries": ["half a')),
            lambda request: reply(honest(request)),
            lambda request: reply(honest(request)),
        ]
    )
    lock = threading.Lock()

    def answer(request: Any) -> Any:
        with lock:
            trouble = next(troubles)
        return trouble(request)

    endpoint.answer = answer
    # Which thread meets which trouble is chance: one may meet many in a row.
    chat = client(endpoint, clock, max_repairs=40, max_retries=40)
    result = synthesize(DOCUMENTS, chat, CONFIG, folder=tmp_path / "out")
    assert result.path.read_bytes() == expected
    assert result.report.num_retries > 5
    assert result.report.num_failed == 0
    assert any(3 <= slept < 4 for slept in clock.slept), "Retry-After was honoured"


def test_an_endpoint_that_dies_half_way_keeps_what_it_said(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path, expected: bytes
) -> None:
    answered = itertools.count()

    def dying(request: Any) -> Any:
        return reply(honest(request)) if next(answered) < 5 else reply(b"x", cut_after=0)

    endpoint.answer = dying
    chat = client(endpoint, clock)
    message = (
        r"connection error .*5 attempts\); \d+ of 12 pieces of work are kept, the same command"
    )
    with pytest.raises(EndpointError, match=message):
        synthesize(DOCUMENTS, chat, CONFIG, folder=tmp_path / "out")
    kept = (tmp_path / "out" / "journal.jsonl").read_text().splitlines()
    assert len(kept) == 1 + 5
    endpoint.requests.clear()
    endpoint.answer = lambda request: reply(honest(request))
    result = synthesize(DOCUMENTS, client(endpoint, clock), CONFIG, folder=tmp_path / "out")
    assert len(endpoint.requests) == 7, "nothing is asked twice"
    assert result.path.read_bytes() == expected


def test_a_refusal_ends_the_run_with_its_reason(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path
) -> None:
    endpoint.script(reply({"error": {"message": "no such model: tiny"}}, 404))
    with pytest.raises(EndpointError, match=r"status 404: no such model: tiny .*0 of 12 pieces"):
        synthesize(DOCUMENTS, client(endpoint, clock), CONFIG, folder=tmp_path)


def test_a_model_that_cannot_do_it_is_not_asked_for_ever(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path
) -> None:
    endpoint.script(reply(said("la la la")))
    config = SynthesisConfig(num_workers=1, max_failures_in_a_row=3)
    chat = client(endpoint, clock, max_repairs=1)
    message = "3 answers in a row could not be used; the last time: tiny at .* no usable JSON in 2"
    with pytest.raises(EndpointError, match=message):
        synthesize(DOCUMENTS, chat, config, folder=tmp_path)
    assert len(endpoint.requests) == 6


def test_single_failures_are_counted_and_the_rest_goes_on(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path
) -> None:
    def answer(request: Any) -> Any:
        if DOCUMENTS[4].text in request.payload["messages"][1]["content"]:
            return reply(said("never"))
        return reply(honest(request))

    endpoint.answer = answer
    report = synthesize(DOCUMENTS, client(endpoint, clock), CONFIG, folder=tmp_path).report
    assert (report.num_pairs, report.num_failed) == (11, 1)
    assert "it holds no JSON value" in report.failures[0]


def test_a_spent_budget_stops_with_what_there_is(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path, expected: bytes
) -> None:
    endpoint.answer = lambda request: reply(honest(request))
    chat = client(endpoint, clock, max_total_tokens=300)
    result = synthesize(DOCUMENTS, chat, CONFIG, folder=tmp_path / "out")
    assert "max_total_tokens of 300 is spent" in result.report.stopped
    assert 5 <= len(result.pairs) <= 7, "those under way are finished"
    assert result.report.input_tokens + result.report.output_tokens >= 300
    assert any(line.startswith("stopped early: ") for line in result.report.lines())
    again = synthesize(DOCUMENTS, client(endpoint, clock), CONFIG, folder=tmp_path / "out")
    assert again.report.stopped == ""
    assert again.path.read_bytes() == expected


RUN = """
import sys
from pathlib import Path
from opengte.http_client import HttpConfig
from opengte.llm import ChatClient, ChatConfig
from opengte.records import Document
from opengte.synthesis.config import GplConfig, SynthesisConfig
from opengte.synthesis.run import synthesize
documents = [Document(id=f"d{i}", text=f"Subject{i} in a few plain words.") for i in range(12)]
chat = ChatClient(ChatConfig(http=HttpConfig(url=sys.argv[1]), model="tiny"))
config = SynthesisConfig(method=GplConfig(queries_per_document=1), num_workers=3)
synthesize(documents, chat, config, folder=Path(sys.argv[2]))
"""


@pytest.mark.parametrize("answered", [1, 6, 11])
def test_a_killed_run_goes_on_and_ends_the_same(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path, expected: bytes, answered: int
) -> None:
    """SIGKILL while requests are under way; only those are asked again."""
    held = threading.Event()
    count = itertools.count(1)

    def answer(request: Any) -> Any:
        if next(count) > answered:
            held.wait(20)
        return reply(honest(request))

    endpoint.answer = answer
    command = [sys.executable, "-c", RUN, endpoint.url, str(tmp_path / "out")]
    journal = tmp_path / "out" / "journal.jsonl"
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 30
        while not journal.exists() or len(journal.read_bytes().splitlines()) < 1 + answered:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    held.set()
    assert not (tmp_path / "out" / "pairs.jsonl").exists()
    endpoint.requests.clear()
    endpoint.answer = lambda request: reply(honest(request))
    result = synthesize(DOCUMENTS, client(endpoint, clock), CONFIG, folder=tmp_path / "out")
    asked_again = [r for r in endpoint.requests if r.payload["model"] == "tiny"]
    assert len(asked_again) <= 12 - answered + 3, "three were under way, and may still arrive"
    assert result.path.read_bytes() == expected


def test_both_calls_of_persona_go_over_the_wire(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path
) -> None:
    def answer(request: Any) -> Any:
        keys = request.payload["response_format"]["json_schema"]["schema"]["required"]
        if "person" in keys:
            chosen = {"person": 1, "question_type": "keywords", "difficulty": "university"}
            return reply(said(json.dumps(chosen)))
        return reply(said(json.dumps({"query": "plain words"})))

    endpoint.answer = answer
    config = SynthesisConfig(method=PersonaConfig())
    result = synthesize(DOCUMENTS[:1], client(endpoint, clock), config, folder=tmp_path)
    assert [pair.query for pair in result.pairs] == ["plain words"]
    assert len(endpoint.requests) == 2


def test_a_line_that_a_kill_cut_in_half_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, {"a": 1}) as journal:
        journal.append("x", {"drafts": ["é"]})
        journal.append("y", {"drafts": []})
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(path, {"a": 1}) as journal:
            kept = set(journal.records)
            assert kept <= {"x", "y"}
            if "x" not in kept:
                journal.append("x", {"drafts": ["é"]})
            if "y" not in kept:
                journal.append("y", {"drafts": []})
        assert path.read_bytes() == whole, cut


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, {}) as journal:
        journal.append("x", {})
    path.write_bytes(path.read_bytes().replace(b'"x"', b'"x'))
    with pytest.raises(DataError, match=r"journal.jsonl:2: this line of the journal is damaged"):
        Journal(path, {})


def test_a_full_disk_is_told_and_the_journal_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, {}) as journal:
        journal.append("x", {})

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(journal_module.os, "fsync", full)
            with pytest.raises(StorageError, match=r"journal\.jsonl: no space left on the device"):
                journal.append("y", {})
    with Journal(path, {}) as journal:
        assert "x" in journal.records
