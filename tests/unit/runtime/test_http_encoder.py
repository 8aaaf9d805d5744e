"""Embeddings over HTTP: the vectors of the encoder behind it, or a clear error."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from opengte.contracts import TextEncoder
from opengte.errors import ConfigError, EndpointError
from opengte.http_client import HttpConfig
from opengte.runtime.hashed import HashEncoder
from opengte.runtime.http import HttpEncoder, HttpEncoderConfig

BEHIND = HashEncoder(16)
TEXTS = [f"text number {i} " + "word " * (i % 5) for i in range(23)]


@pytest.fixture
def serve(endpoint: Any, reply: Any) -> Any:
    """An honest endpoint around ``BEHIND``; rows come in reverse, as they may."""

    def answer(request: Any) -> Any:
        texts = request.payload["input"]
        found = BEHIND.embed(texts)
        rows = []
        for number, vector in enumerate(found.vectors):
            value: Any = vector.tolist()
            if request.payload.get("encoding_format") == "base64":
                value = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            rows.append({"index": number, "embedding": value})
        usage = {"prompt_tokens": int(found.num_tokens.sum())}
        return reply({"data": rows[::-1], "usage": usage})

    endpoint.answer = answer
    return endpoint


def encoder(endpoint: Any, clock: Any = None, **settings: Any) -> HttpEncoder:
    http = HttpConfig(url=endpoint.url, timeout_seconds=5, max_retries=2)
    config = HttpEncoderConfig(**{"http": http, "model": "m", **settings})
    return HttpEncoder(config, clock=clock)


@pytest.mark.parametrize("encoding", ["base64", "float", "auto"])
def test_vectors_are_those_of_the_encoder_behind(serve: Any, clock: Any, encoding: str) -> None:
    remote = encoder(serve, clock, encoding=encoding, batch_texts=4, num_connections=3)
    assert isinstance(remote, TextEncoder)
    np.testing.assert_allclose(remote.encode(TEXTS), BEHIND.encode(TEXTS), atol=1e-6)
    assert remote.space.dimensions == 16
    assert remote.encode([]).shape == (0, 16)


def test_batches_are_bounded_by_texts_and_characters(serve: Any, clock: Any) -> None:
    calls: list[tuple[int, int | None]] = []
    remote = encoder(serve, clock, batch_texts=5, batch_characters=80, num_connections=1)
    remote.encode(TEXTS, progress=lambda done, total: calls.append((done, total)))
    asked = [request.payload["input"] for request in serve.requests][1:]
    assert [text for texts in asked for text in texts] == TEXTS
    assert all(len(texts) <= 5 and sum(map(len, texts)) <= 80 for texts in asked)
    assert calls[-1] == (23, 23)
    assert len(calls) == len(asked)


def test_prompts_are_put_in_front_by_kind(serve: Any, clock: Any) -> None:
    remote = encoder(serve, clock, query_prompt="query: ", document_prompt="passage: ")
    expected = BEHIND.encode(["query: a", "passage: a", "a", "mine a"])
    found = [
        remote.encode(["a"], kind="query"),
        remote.encode(["a"], kind="document"),
        remote.encode(["a"]),
        remote.encode(["a"], kind="query", prompt="mine "),
    ]
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


def test_tokens_are_split_by_length_where_only_the_total_is_known(serve: Any, clock: Any) -> None:
    found = encoder(serve, clock).embed(TEXTS)
    assert found.num_tokens.sum() == BEHIND.embed(TEXTS).num_tokens.sum()
    assert not found.truncated.any()


def test_tokens_and_truncation_are_taken_where_they_are_told(
    endpoint: Any, clock: Any, reply: Any
) -> None:
    rows = [
        {"index": 0, "embedding": [1.0, 0.0], "num_tokens": 3, "truncated": False},
        {"index": 1, "embedding": [0.0, 2.0], "num_tokens": 9, "truncated": True},
    ]
    endpoint.answer = lambda request: reply({"data": rows[: len(request.payload["input"])]})
    found = encoder(endpoint, clock, sends_truncate=True).embed(["a", "b"], truncate="start")
    assert found.num_tokens.tolist() == [3, 9]
    assert found.truncated.tolist() == [False, True]
    assert found.vectors.tolist() == [[1, 0], [0, 1]]
    assert {request.payload.get("truncate") for request in endpoint.requests} == {None, "start"}


def test_vectors_are_cut_to_known_sizes_and_renormalised(serve: Any, clock: Any) -> None:
    remote = encoder(serve, clock, matryoshka_dimensions=(4, 8))
    found = remote.encode(TEXTS[:3], dimensions=8)
    whole = BEHIND.encode(TEXTS[:3])[:, :8]
    np.testing.assert_allclose(
        found, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6
    )
    with pytest.raises(ConfigError, match=r"dimensions must be one of \[4, 8, 16\], got 5"):
        remote.encode(["a"], dimensions=5)


def test_an_endpoint_that_refuses_base64_gets_floats(serve: Any, clock: Any, reply: Any) -> None:
    honest = serve.answer

    def answer(request: Any) -> Any:
        if request.payload.get("encoding_format") == "base64":
            return reply({"error": "unknown field encoding_format"}, 422)
        return honest(request)

    serve.answer = answer
    remote = encoder(serve, clock)
    np.testing.assert_allclose(remote.encode(TEXTS), BEHIND.encode(TEXTS), atol=1e-6)
    assert [r.payload.get("encoding_format") for r in serve.requests] == ["base64", None, "float"]
    with pytest.raises(EndpointError, match="status 422: unknown field"):
        encoder(serve, clock, encoding="base64").encode(["a"])


def test_empty_texts_are_sent_as_a_space(serve: Any, clock: Any) -> None:
    encoder(serve, clock).encode(["", "a"])
    assert serve.requests[-1].payload["input"] == [" ", "a"]


def test_truncation_that_cannot_be_promised_is_refused(serve: Any, clock: Any) -> None:
    with pytest.raises(ConfigError, match=r"not known to obey truncate='none'; set sends_truncate"):
        encoder(serve, clock).encode(["a"], truncate="none")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"data": []}, "gave 0 embeddings for 1 texts"),
        ({"object": "list"}, "gave no embeddings for 1 texts"),
        ([], "gave no embeddings for 1 texts"),
        ({"data": [{"index": 1, "embedding": [1.0]}]}, "cannot be read"),
        ({"data": [{"index": 0, "embedding": "not base64!"}]}, "cannot be read"),
        ({"data": [{"index": 0, "embedding": "AAA="}]}, "cannot be read"),
        ({"data": [{"index": 0, "embedding": ["a"]}]}, "cannot be read"),
        ({"data": [{"index": 0}]}, "cannot be read"),
        ({"data": ["x"]}, "cannot be read"),
        ({"data": [{"index": 0, "embedding": []}]}, "empty or not finite"),
        ({"data": [{"index": 0, "embedding": [float("nan")]}]}, "empty or not finite"),
        ({"data": [{"index": 0, "embedding": [0.0, 0.0]}]}, "an embedding of zeros"),
    ],
)
def test_nonsense_is_a_clear_error(
    endpoint: Any, clock: Any, reply: Any, answer: Any, message: str
) -> None:
    endpoint.script(reply(answer))
    with pytest.raises(EndpointError, match=rf"/v1/embeddings .*{message}.*; model 'm'"):
        encoder(endpoint, clock).encode(["a"])


def test_vectors_of_different_lengths_are_refused(endpoint: Any, clock: Any, reply: Any) -> None:
    rows = [{"index": i, "embedding": [1.0] * (i + 2)} for i in range(2)]
    endpoint.script(reply({"data": rows[:1]}), reply({"data": rows}))
    with pytest.raises(EndpointError, match="embeddings of different lengths"):
        encoder(endpoint, clock).encode(["a", "b"])


def test_a_model_that_changes_its_dimensions_is_refused(
    endpoint: Any, clock: Any, reply: Any
) -> None:
    one = [{"index": 0, "embedding": [1.0, 1.0]}]
    two = [{"index": 0, "embedding": [1.0, 1.0, 1.0]}]
    endpoint.script(reply({"data": one}), reply({"data": two}))
    with pytest.raises(EndpointError, match="vectors of 3 dimensions, but 2 before"):
        encoder(endpoint, clock).encode(["a"])


def test_an_endpoint_that_dies_half_way_is_named(serve: Any, clock: Any, reply: Any) -> None:
    honest = serve.answer

    def answer(request: Any) -> Any:
        return honest(request) if len(serve.requests) < 4 else reply(b"x", cut_after=0)

    serve.answer = answer
    remote = encoder(serve, clock, batch_texts=2, num_connections=2)
    with pytest.raises(EndpointError, match=r"a connection error .*3 attempts"):
        remote.encode(TEXTS)
    assert len(serve.requests) < 23, "what was still waiting is not sent any more"


def test_troubles_that_pass_change_nothing(serve: Any, clock: Any, reply: Any) -> None:
    honest = serve.answer
    troubles = [reply(b"", 429, {"Retry-After": "1"}), reply(b"x", cut_after=0), reply(b"", 503)]

    def answer(request: Any) -> Any:
        with serve.lock:
            trouble = troubles.pop() if troubles and len(serve.requests) % 2 else None
        return trouble or honest(request)

    serve.answer = answer
    remote = encoder(serve, clock, batch_texts=4, num_connections=1)
    np.testing.assert_allclose(remote.encode(TEXTS), BEHIND.encode(TEXTS), atol=1e-6)
    assert not troubles


def test_space_names_endpoint_model_and_revision(serve: Any, clock: Any) -> None:
    spaces = [
        encoder(serve, clock, **settings).space.fingerprint
        for settings in ({}, {"model": "n"}, {"revision": "2"}, {"query_prompt": "q: "})
    ]
    assert len(set(spaces)) == 4
    assert encoder(serve, clock).space.fingerprint == spaces[0]


def test_settings_that_cannot_work_are_refused() -> None:
    http = HttpConfig(url="http://h/v1")
    with pytest.raises(ConfigError, match="needs the name of a model"):
        HttpEncoderConfig(http=http, model="")
    with pytest.raises(ConfigError, match="batch_texts must be >= 1, got 0"):
        HttpEncoderConfig(http=http, model="m", batch_texts=0)
