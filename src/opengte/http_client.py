"""A JSON request -> the endpoint's JSON answer, through everything that networks do on the way.

One transport for embeddings and chat endpoints: retries with exponential back-off and full
jitter that honours Retry-After, limits per minute, time limits, answers of bounded size, and
errors that name the endpoint and never a secret. The API key is read from an environment
variable that the configuration names; it is stored nowhere and cut out of everything that is
shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opengte.errors import ConfigError, EndpointError

if TYPE_CHECKING:
    import httpx

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_SHOWN_CHARACTERS = 300
_MIB = 1024 * 1024
_MINUTE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class HttpConfig:
    """How to speak to one endpoint.

    Attributes:
        url: the base, to which a path is added, e.g. ``http://127.0.0.1:8000/v1``.
        api_key_env: name of the environment variable that holds the key; empty = no key.
        timeout_seconds: for one attempt from its first byte sent to its last byte received.
        max_retries: attempts after the first one.
        first_wait_seconds, max_wait_seconds: bounds of the wait before a retry, which doubles
            each time and is drawn from [half, whole].
        requests_per_minute, tokens_per_minute: limits kept by waiting; 0 = none. They hold for
            all threads of one client together.
        max_answer_mib: longer answers are refused.
    """

    url: str
    api_key_env: str = ""
    timeout_seconds: float = 120.0
    max_retries: int = 6
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 60.0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_answer_mib: int = 256

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("the endpoint's url must look like https://host/v1")
        if parts.username or parts.password or parts.query:
            # Not shown: this is where a secret would stand.
            raise ConfigError(
                f"the url of endpoint {parts.hostname} holds credentials or a query; "
                "put the key into an environment variable and name it in api_key_env"
            )
        for name in ("timeout_seconds", "first_wait_seconds", "max_wait_seconds"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be > 0, got {getattr(self, name)}")
        for name in ("max_retries", "requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.max_answer_mib < 1:
            raise ConfigError(f"max_answer_mib must be >= 1, got {self.max_answer_mib}")


class Clock:
    """Time as a value: what sleeps, tells the time and draws the jitter; tests bring their own."""

    def now(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def jitter(self) -> float:
        """A number in [0, 1)."""
        return random.random()


class RateLimit:
    """Lets through at most so much in any window of sixty seconds; others wait their turn.

    Args:
        per_minute: the limit; 0 = none.
        clock: what time it is.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def take(self, amount: int) -> None:
        """Wait until ``amount`` fits; an amount beyond the limit waits for an empty window."""
        while self._per_minute:
            with self._lock:
                now = self._clock.now()
                while self._spent and self._spent[0][0] <= now - _MINUTE_SECONDS:
                    self._spent.popleft()
                used = sum(part for _, part in self._spent)
                if used == 0 or used + amount <= self._per_minute:
                    self._spent.append((now, amount))
                    return
                wait = self._spent[0][0] + _MINUTE_SECONDS - now
            self._clock.sleep(wait)


class StatusError(EndpointError):
    """The endpoint answered with a status that is no success.

    Args:
        message: what was asked and what it said.
        status: the HTTP status.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that gave no answer.

    Attributes:
        seen: what came instead.
        may_pass: whether another attempt can help.
        retry_after: seconds the endpoint asks to wait, where it does.
        status: the HTTP status, where there was one.
    """

    seen: str
    may_pass: bool = True
    retry_after: float | None = None
    status: int | None = None


class JsonEndpoint:
    """Posts JSON to paths below one URL; may be used by several threads at once.

    Args:
        config: how.
        clock: time and jitter.
    """

    def __init__(self, config: HttpConfig, *, clock: Clock | None = None) -> None:
        self.config = config
        self._clock = clock or Clock()
        self._requests = RateLimit(config.requests_per_minute, self._clock)
        self._tokens = RateLimit(config.tokens_per_minute, self._clock)
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()
        self.num_retries = 0

    @property
    def name(self) -> str:
        """The endpoint as messages name it: scheme, host and path."""
        return self.config.url.rstrip("/")

    def post(self, path: str, payload: Mapping[str, Any], *, num_tokens: int = 0) -> Any:
        """Send ``payload`` and return the parsed answer.

        Args:
            path: added to the base, e.g. ``/chat/completions``.
            payload: JSON-able.
            num_tokens: what the request is expected to cost, for ``tokens_per_minute``.

        Raises:
            EndpointError: refused, or still failing after all retries; says what was seen last.
                A ``StatusError`` where there was an HTTP status.
        """
        body = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Content-Type": "application/json", **self._authorisation()}
        url = self.name + path
        for attempt in range(self.config.max_retries + 1):
            self._requests.take(1)
            self._tokens.take(num_tokens)
            failure = self._attempt(url, body, headers)
            if not isinstance(failure, Failure):
                return failure
            if attempt == self.config.max_retries or not failure.may_pass:
                raise self._error(url, failure, attempt + 1)
            self._wait(url, failure, attempt)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Give the connections back; a later call opens new ones."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _attempt(self, url: str, body: bytes, headers: Mapping[str, str]) -> Any:
        import httpx

        try:
            content, answer = self._exchange(url, body, headers)
        except httpx.TimeoutException:
            return Failure(f"no answer within {self.config.timeout_seconds:g} s")
        except httpx.RequestError as error:
            return Failure(f"a connection error ({type(error).__name__}: {error})")
        except httpx.InvalidURL as error:
            return Failure(f"an unusable url ({error})", may_pass=False)
        if answer.status_code in RETRIED_STATUS:
            return Failure(
                f"status {answer.status_code}: {self._said(content)}",
                retry_after=_retry_after_seconds(answer.headers.get("Retry-After")),
                status=answer.status_code,
            )
        if answer.status_code != 200:
            seen = f"status {answer.status_code}: {self._said(content)}"
            return Failure(seen, may_pass=False, status=answer.status_code)
        try:
            return json.loads(content)
        except ValueError:
            # Half an answer or a proxy's page: the next attempt may do better.
            return Failure(f"an answer that is not JSON: {self._said(content)}")

    def _exchange(
        self, url: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[bytes, httpx.Response]:
        import httpx

        limit = self.config.max_answer_mib * _MIB
        deadline = self._clock.now() + self.config.timeout_seconds
        content = bytearray()
        with self._http().stream("POST", url, content=body, headers=dict(headers)) as answer:
            for part in answer.iter_bytes():
                content += part
                if len(content) > limit:
                    raise httpx.ReadError(f"more than {self.config.max_answer_mib} MiB")
                # The client's own limit is for one read; a drip of bytes would never meet it.
                if self._clock.now() > deadline:
                    raise httpx.ReadTimeout("too slow")
        return bytes(content), answer

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                timeout = httpx.Timeout(self.config.timeout_seconds)
                # No redirects: a key must not travel to another host.
                self._client = httpx.Client(timeout=timeout, follow_redirects=False)
                # Whoever forgets to close leaves no open connection behind.
                weakref.finalize(self, self._client.close)
            return self._client

    def _authorisation(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        name = self.config.api_key_env
        if not name:
            return ""
        key = os.environ.get(name, "").strip()
        if not key:
            raise ConfigError(
                f"the environment variable {name}, which api_key_env names, is not set"
            )
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"the environment variable {name} holds no usable API key")
        return key

    def _wait(self, url: str, failure: Failure, attempt: int) -> None:
        whole = min(self.config.max_wait_seconds, self.config.first_wait_seconds * 2.0**attempt)
        wait = whole * (0.5 + 0.5 * self._clock.jitter())
        if failure.retry_after is not None:
            if failure.retry_after > self.config.max_wait_seconds:
                raise self._error(url, failure, attempt + 1)
            # A little more than asked for, so that many clients do not come back as one.
            wait = failure.retry_after + wait * 0.1
        with self._lock:
            self.num_retries += 1
        self._clock.sleep(wait)

    def _said(self, content: bytes) -> str:
        """What an answer says, on one line and without the key; an error object is unwrapped."""
        text = content[: 64 * 1024].decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            error = json.loads(text)["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        line = " ".join(text.split())
        key = self._key()
        if key:  # before the cut, which could leave half of it
            line = line.replace(key, "[api key]")
        if not line:
            return "(an empty answer)"
        return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"

    def _error(self, url: str, failure: Failure, attempts: int) -> EndpointError:
        asked = ""
        if failure.retry_after is not None:
            asked = f"; it asks to wait {failure.retry_after:g} s"
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        message = f"{url} gave {failure.seen} ({tries}{asked})"
        if failure.status is None:
            return EndpointError(message)
        return StatusError(message, status=failure.status)


def _retry_after_seconds(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date; None where it is absent."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
