"""Messages -> a language model's text or checked JSON, from any OpenAI-compatible endpoint.

Works with what speaks ``/chat/completions``: OpenAI, vLLM, SGLang, llama.cpp, Ollama, LM Studio.
Endpoints differ in how far they can be made to answer in JSON, so the answer is checked here in
any case and asked for again with the faults named.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from opengte.errors import ConfigError, EndpointError
from opengte.http_client import Clock, HttpConfig, JsonEndpoint, StatusError
from opengte.json_schema import check_schema, extract_json, find_faults

# Where an endpoint reports no usage: about four characters a token for English.
_CHARACTERS_PER_TOKEN = 4
JsonMode = Literal["auto", "json_schema", "json_object", "none"]


class AnswerError(EndpointError):
    """The endpoint works, but this answer cannot be used: empty, cut off, or not as asked for."""


class BudgetSpentError(EndpointError):
    """The tokens or the money set aside for this client are spent."""


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """Which model, and how much of it.

    Attributes:
        http: the endpoint; its limits per minute count input and ``max_tokens``.
        model: name of the model, as the endpoint knows it.
        temperature: of sampling; None sends none, for models that take only their own.
        max_tokens: longest answer, in the model's tokens.
        max_tokens_field: what the endpoint calls it; OpenAI's newer models want
            ``max_completion_tokens``.
        seed: sent where it is set; few endpoints promise to repeat themselves.
        json_mode: how JSON is asked for. ``auto`` sends the schema, and goes down to
            ``json_object`` and ``none`` where the endpoint refuses.
        max_repairs: how often an answer that fails its schema is asked for again.
        max_total_tokens: of all requests together, in and out; 0 = no limit.
        max_cost: in the currency of the two prices; 0 = no limit.
        input_price, output_price: for a million tokens.
        extra: sent along as it is, e.g. ``chat_template_kwargs: {enable_thinking: false}``.

    The limits are looked at before each request, so that those already under way are finished.
    """

    http: HttpConfig
    model: str
    temperature: float | None = 1.0
    max_tokens: int = 1024
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed: int | None = None
    json_mode: JsonMode = "auto"
    max_repairs: int = 2
    max_total_tokens: int = 0
    max_cost: float = 0.0
    input_price: float = 0.0
    output_price: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("the chat endpoint needs the name of a model")
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be >= 1, got {self.max_tokens}")
        if self.max_repairs < 0:
            raise ConfigError(f"max_repairs must be >= 0, got {self.max_repairs}")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ConfigError(f"temperature must be in [0, 2], got {self.temperature}")
        if min(self.max_total_tokens, self.max_cost, self.input_price, self.output_price) < 0:
            raise ConfigError("limits and prices of the chat endpoint must be >= 0")
        if self.max_cost and not (self.input_price or self.output_price):
            raise ConfigError("max_cost needs input_price and output_price to count with")


@dataclass(frozen=True, slots=True)
class ChatUsage:
    """What was used so far: requests that were answered, and tokens."""

    num_requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens in and out."""
        return self.input_tokens + self.output_tokens


class ChatClient:
    """A ``ChatModel`` behind an OpenAI-compatible endpoint; threads may share it.

    Args:
        config: which model, and how much of it.
        clock: time and jitter.
    """

    def __init__(self, config: ChatConfig, *, clock: Clock | None = None) -> None:
        self.config = config
        self._endpoint = JsonEndpoint(config.http, clock=clock)
        self._usage = ChatUsage()
        self._json_mode: JsonMode = config.json_mode
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """Name of the model, as the endpoint knows it."""
        return self.config.model

    @property
    def usage(self) -> ChatUsage:
        """What was used so far."""
        return self._usage

    @property
    def num_retries(self) -> int:
        """Requests that had to be sent again."""
        return self._endpoint.num_retries

    @property
    def cost(self) -> float:
        """What was spent so far, in the currency of the prices."""
        config, usage = self.config, self._usage
        millions = usage.input_tokens * config.input_price
        return (millions + usage.output_tokens * config.output_price) / 1e6

    def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        json_schema: Mapping[str, Any] | None = None,
    ) -> str:
        """The answer's text; with ``json_schema``, JSON that satisfies it and nothing else.

        Raises:
            EndpointError: the endpoint refused or did not answer.
            AnswerError: it answered, but not as asked for.
            BudgetSpentError: before sending, when a limit is reached.
        """
        config = replace(
            self.config,
            max_tokens=self.config.max_tokens if max_tokens is None else max_tokens,
            temperature=self.config.temperature if temperature is None else temperature,
        )
        if json_schema is None:
            return self._ask(list(messages), config)[0]
        return self._complete_json(list(messages), config, json_schema)

    def close(self) -> None:
        """Give the connections back."""
        self._endpoint.close()

    def _complete_json(
        self, messages: list[Mapping[str, str]], config: ChatConfig, schema: Mapping[str, Any]
    ) -> str:
        check_schema(schema)
        faults: list[str] = []
        asked = messages
        for _ in range(config.max_repairs + 1):
            text, finish = self._ask(asked, config, schema)
            value, faults = _checked(text, finish, schema, config.max_tokens)
            if not faults:
                return json.dumps(value, ensure_ascii=False)
            asked = [
                *messages,
                {"role": "assistant", "content": text},
                {"role": "user", "content": _repair_request(faults)},
            ]
        tries = config.max_repairs + 1
        raise AnswerError(
            f"{config.model} at {self._endpoint.name} gave no usable JSON in {tries} answers; "
            f"in the last one {faults[0]}"
        )

    def _ask(
        self,
        messages: list[Mapping[str, str]],
        config: ChatConfig,
        schema: Mapping[str, Any] | None = None,
    ) -> tuple[str, str]:
        """One answer's text, and why it ended."""
        self._check_budget()
        payload: dict[str, Any] = {
            **config.extra,
            "model": config.model,
            "messages": messages,
            config.max_tokens_field: config.max_tokens,
        }
        if config.temperature is not None:
            payload["temperature"] = config.temperature
        if config.seed is not None:
            payload["seed"] = config.seed
        written = sum(len(message["content"]) for message in messages)
        expected = written // _CHARACTERS_PER_TOKEN + config.max_tokens
        answer = self._post(payload, schema, expected)
        text, finish = _message(answer, self._endpoint.name)
        self._count(answer, written, len(text))
        if schema is None and not text.strip():
            raise AnswerError(f"{config.model} at {self._endpoint.name} gave an empty answer")
        return text, finish

    def _post(
        self, payload: dict[str, Any], schema: Mapping[str, Any] | None, expected: int
    ) -> Any:
        if schema is None:
            return self._endpoint.post("/chat/completions", payload, num_tokens=expected)
        modes = _MODES[self._json_mode]
        for mode in modes:
            wanted = {**payload, **_response_format(mode, schema)}
            try:
                answer = self._endpoint.post("/chat/completions", wanted, num_tokens=expected)
            except StatusError as error:
                if error.status not in _REFUSED or mode == modes[-1]:
                    raise
            else:
                # Only what worked is remembered: a refusal may have had other reasons.
                if len(modes) > 1:
                    self._json_mode = mode
                return answer
        raise AssertionError("the last mode returns or raises")

    def _check_budget(self) -> None:
        config, usage = self.config, self._usage
        if config.max_total_tokens and usage.total_tokens >= config.max_total_tokens:
            raise BudgetSpentError(
                f"max_total_tokens of {config.max_total_tokens} is spent after "
                f"{usage.num_requests} requests; raise it to go on"
            )
        if config.max_cost and self.cost >= config.max_cost:
            raise BudgetSpentError(
                f"max_cost of {config.max_cost:g} is spent after {usage.num_requests} requests "
                f"({self.cost:.4g}); raise it to go on"
            )

    def _count(self, answer: Any, written: int, read: int) -> None:
        reported = answer.get("usage") or {}
        tokens_in = reported.get("prompt_tokens")
        tokens_out = reported.get("completion_tokens")
        with self._lock:
            self._usage = ChatUsage(
                num_requests=self._usage.num_requests + 1,
                input_tokens=self._usage.input_tokens + _number(tokens_in, written),
                output_tokens=self._usage.output_tokens + _number(tokens_out, read),
            )


_REFUSED = frozenset({400, 415, 422, 501})
_MODES: dict[JsonMode, tuple[JsonMode, ...]] = {
    "auto": ("json_schema", "json_object", "none"),
    "json_schema": ("json_schema",),
    "json_object": ("json_object",),
    "none": ("none",),
}


def _response_format(mode: JsonMode, schema: Mapping[str, Any]) -> dict[str, Any]:
    if mode == "none":
        return {}
    if mode == "json_object":
        return {"response_format": {"type": "json_object"}}
    named = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _checked(
    text: str, finish: str, schema: Mapping[str, Any], max_tokens: int
) -> tuple[Any, list[str]]:
    try:
        value = extract_json(text)
    except ValueError as error:
        cut = finish == "length"
        return None, [f"it was cut off at max_tokens={max_tokens}" if cut else str(error)]
    return value, find_faults(value, schema)


def _repair_request(faults: list[str]) -> str:
    listed = "\n".join(f"- {fault}" for fault in faults[:8])
    return (
        "That answer cannot be used:\n"
        f"{listed}\n"
        "Answer again with the corrected JSON value alone, without any other words."
    )


def _message(answer: Any, endpoint: str) -> tuple[str, str]:
    try:
        choice = answer["choices"][0]
        content = choice["message"]["content"]
        finish = str(choice.get("finish_reason"))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndpointError(
            f"{endpoint} answered without choices[0].message.content; is it a chat endpoint?"
        ) from error
    return (content if isinstance(content, str) else ""), finish


def _number(reported: Any, characters: int) -> int:
    if isinstance(reported, int) and reported >= 0:
        return reported
    return -(-characters // _CHARACTERS_PER_TOKEN)
