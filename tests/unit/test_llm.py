"""A chat endpoint gives text or checked JSON, or a clear error, within its limits."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from opengte.contracts import ChatModel
from opengte.errors import ConfigError, EndpointError
from opengte.http_client import HttpConfig
from opengte.llm import AnswerError, BudgetSpentError, ChatClient, ChatConfig

SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string", "minLength": 1}},
    "required": ["query"],
    "additionalProperties": False,
}
ASK = [{"role": "user", "content": "please"}]


def said(content: Any, *, finish: str = "stop", usage: tuple[int, int] | None = (7, 5)) -> Any:
    answer: dict[str, Any] = {
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish}]
    }
    if usage is not None:
        answer["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return answer


def chat(endpoint: Any, clock: Any, **settings: Any) -> ChatClient:
    http = HttpConfig(url=endpoint.url, timeout_seconds=5, max_retries=2)
    return ChatClient(ChatConfig(**{"http": http, "model": "tiny", **settings}), clock=clock)


def test_is_a_chat_model(endpoint: Any, clock: Any) -> None:
    model: ChatModel = chat(endpoint, clock)
    assert callable(model.complete)


def test_text_is_returned_and_counted(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(said("hello")))
    client = chat(endpoint, clock, seed=3, extra={"top_k": 5}, input_price=1e6, output_price=2e6)
    assert client.complete(ASK, temperature=0, max_tokens=9) == "hello"
    assert endpoint.requests[0].path == "/v1/chat/completions"
    assert endpoint.requests[0].payload == {
        "model": "tiny",
        "messages": ASK,
        "max_tokens": 9,
        "temperature": 0,
        "seed": 3,
        "top_k": 5,
    }
    assert (client.usage.num_requests, client.usage.total_tokens) == (1, 12)
    assert client.cost == 7 + 10


def test_fields_that_newer_models_refuse_can_be_left_out(
    endpoint: Any, clock: Any, reply: Any
) -> None:
    endpoint.script(reply(said("hello")))
    chat(endpoint, clock, temperature=None, max_tokens_field="max_completion_tokens").complete(ASK)
    payload = endpoint.requests[0].payload
    assert "temperature" not in payload
    assert "max_tokens" not in payload
    assert payload["max_completion_tokens"] == 1024


def test_json_is_asked_for_checked_and_cleaned(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(said('```json\n{"query": "é"}\n```')))
    assert chat(endpoint, clock).complete(ASK, json_schema=SCHEMA) == '{"query": "é"}'
    wanted = endpoint.requests[0].payload["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["schema"] == SCHEMA


def test_faulty_json_is_asked_for_again_with_the_fault_named(
    endpoint: Any, clock: Any, reply: Any
) -> None:
    endpoint.script(
        reply(said("I would say: how?")),
        reply(said('{"question": 1}')),
        reply(said('{"query": "q"}')),
    )
    assert chat(endpoint, clock).complete(ASK, json_schema=SCHEMA) == '{"query": "q"}'
    second, third = (request.payload["messages"] for request in endpoint.requests[1:])
    assert second[0] == ASK[0]
    assert second[1] == {"role": "assistant", "content": "I would say: how?"}
    assert "it holds no JSON value" in second[2]["content"]
    assert "lacks the key 'query'" in third[2]["content"]
    assert len(third) == 3, "faults do not pile up"


def test_json_that_stays_faulty_is_a_clear_error(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(said('{"query": ""}')))
    message = (
        r"tiny at http://.*/v1 gave no usable JSON in 3 answers; in the last one .*\.query must"
    )
    with pytest.raises(AnswerError, match=message):
        chat(endpoint, clock).complete(ASK, json_schema=SCHEMA)


def test_json_cut_off_by_its_length_is_told_as_such(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(said('{"query": "so lo', finish="length")))
    with pytest.raises(AnswerError, match="it was cut off at max_tokens=64"):
        chat(endpoint, clock, max_repairs=0).complete(ASK, json_schema=SCHEMA, max_tokens=64)


def test_endpoints_without_schemas_are_asked_in_their_way(
    endpoint: Any, clock: Any, reply: Any
) -> None:
    def answer(request: Any) -> Any:
        if "response_format" in request.payload:
            return reply({"error": {"message": "response_format unknown"}}, 400)
        return reply(said('{"query": "q"}'))

    endpoint.answer = answer
    client = chat(endpoint, clock)
    client.complete(ASK, json_schema=SCHEMA)
    client.complete(ASK, json_schema=SCHEMA)
    kinds = [r.payload.get("response_format", {}).get("type") for r in endpoint.requests]
    assert kinds == ["json_schema", "json_object", None, None], "what worked is remembered"


def test_a_refusal_of_another_cause_does_not_change_the_way(
    endpoint: Any, clock: Any, reply: Any
) -> None:
    endpoint.script(reply({"error": "too long"}, 400))
    client = chat(endpoint, clock)
    with pytest.raises(EndpointError, match="status 400: too long"):
        client.complete(ASK, json_schema=SCHEMA)
    endpoint.script(reply(said('{"query": "q"}')))
    client.complete(ASK, json_schema=SCHEMA)
    assert endpoint.requests[-1].payload["response_format"]["type"] == "json_schema"
    endpoint.script(reply(b"", 400))
    chosen = chat(endpoint, clock, json_mode="json_object")
    with pytest.raises(EndpointError, match="status 400"):
        chosen.complete(ASK, json_schema=SCHEMA)
    assert len(endpoint.requests) == 3 + 1 + 1, "a way that was chosen is kept"


@pytest.mark.parametrize("answer", [{}, [], {"choices": []}, {"choices": [{"text": "x"}]}, None])
def test_an_endpoint_that_is_no_chat_is_told(
    endpoint: Any, clock: Any, reply: Any, answer: Any
) -> None:
    endpoint.script(reply(answer))
    with pytest.raises(EndpointError, match=r"without choices\[0\].*is it a chat endpoint"):
        chat(endpoint, clock).complete(ASK)


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_an_empty_answer_is_an_error(
    endpoint: Any, clock: Any, reply: Any, content: str | None
) -> None:
    endpoint.script(reply(said(content)))
    with pytest.raises(AnswerError, match=r"tiny at .* gave an empty answer"):
        chat(endpoint, clock).complete(ASK)


def test_tokens_and_money_run_out_before_the_request(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(said("x")))
    client = chat(endpoint, clock, max_total_tokens=20)
    client.complete(ASK)
    client.complete(ASK)
    with pytest.raises(BudgetSpentError, match="max_total_tokens of 20 is spent after 2 requests"):
        client.complete(ASK)
    dear = chat(endpoint, clock, max_cost=10.0, input_price=1e6)
    dear.complete(ASK)
    dear.complete(ASK)
    with pytest.raises(BudgetSpentError, match="max_cost of 10 is spent after 2 requests"):
        dear.complete(ASK)
    assert len(endpoint.requests) == 4


def test_usage_that_is_not_reported_is_estimated(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(said("x" * 9, usage=None)))
    client = chat(endpoint, clock)
    client.complete([{"role": "user", "content": "y" * 40}])
    assert (client.usage.input_tokens, client.usage.output_tokens) == (10, 3)


def test_threads_share_a_client(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.answer = lambda request: reply(
        said(json.dumps({"query": request.payload["messages"][0]["content"]}))
    )
    client = chat(endpoint, clock)

    def ask(number: int) -> str:
        message = [{"role": "user", "content": str(number)}]
        return json.loads(client.complete(message, json_schema=SCHEMA))["query"]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(20))) == [str(number) for number in range(20)]
    assert client.usage.num_requests == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ""}, "needs the name of a model"),
        ({"max_tokens": 0}, "max_tokens must be >= 1, got 0"),
        ({"max_repairs": -1}, "max_repairs must be >= 0, got -1"),
        ({"temperature": 3}, r"temperature must be in \[0, 2\], got 3"),
        ({"max_total_tokens": -1}, "limits and prices of the chat endpoint must be >= 0"),
        ({"max_cost": 1.0}, "max_cost needs input_price and output_price"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChatConfig(**{"http": HttpConfig(url="http://h/v1"), "model": "m", **settings})


def test_a_schema_that_cannot_be_checked_is_refused_before_asking(
    endpoint: Any, clock: Any
) -> None:
    with pytest.raises(ConfigError, match="uses 'oneOf'"):
        chat(endpoint, clock).complete(ASK, json_schema={"oneOf": []})
    assert endpoint.requests == []
