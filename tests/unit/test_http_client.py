"""The transport gets through what networks do, and tells no secrets."""

from __future__ import annotations

import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from opengte.errors import ConfigError, EndpointError
from opengte.http_client import Clock, HttpConfig, JsonEndpoint, RateLimit, StatusError

SECRET = "sk-secret-0123456789"


def client(endpoint: Any, clock: Any, **settings: Any) -> JsonEndpoint:
    settings = {"timeout_seconds": 5.0, "max_retries": 3, **settings}
    return JsonEndpoint(HttpConfig(url=endpoint.url, **settings), clock=clock)


def test_posts_json_and_reads_the_answer(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply({"answer": "ä"}))
    assert client(endpoint, clock).post("/x", {"text": "é\ud800"}) == {"answer": "ä"}
    (request,) = endpoint.requests
    assert request.path == "/v1/x"
    assert request.payload == {"text": "é?"}
    assert "Authorization" not in request.headers


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_troubles_are_retried(endpoint: Any, clock: Any, reply: Any, status: int) -> None:
    endpoint.script(reply(b"busy", status), reply(b"busy", status), reply({"ok": 1}))
    http = client(endpoint, clock)
    assert http.post("/x", {}) == {"ok": 1}
    assert http.num_retries == 2
    assert clock.slept == [0.375, 0.75], "half a second doubled, times 0.75 for jitter 0.5"


def test_back_off_is_bounded_and_ends_in_an_error(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply({"error": {"message": "over\n capacity"}}, 503))
    http = client(endpoint, clock, max_retries=5, max_wait_seconds=2)
    expected = r"/v1/x gave status 503: over capacity \(6 attempts\)"
    with pytest.raises(StatusError, match=expected) as caught:
        http.post("/x", {})
    assert caught.value.status == 503
    assert clock.slept == [0.375, 0.75, 1.5, 1.5, 1.5]


def test_retry_after_seconds_are_waited(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(b"", 429, {"Retry-After": "7"}), reply({}))
    client(endpoint, clock).post("/x", {})
    assert 7 <= clock.slept[0] < 7.1


def test_retry_after_date_is_waited(endpoint: Any, clock: Any, reply: Any) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    endpoint.script(reply(b"", 503, {"Retry-After": when}), reply({}))
    client(endpoint, clock).post("/x", {})
    assert 17 < clock.slept[0] < 21


def test_retry_after_nonsense_is_an_ordinary_wait(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(b"", 429, {"Retry-After": "soon"}), reply({}))
    client(endpoint, clock).post("/x", {})
    assert clock.slept == [0.375]


def test_retry_after_beyond_patience_is_an_error(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(b"quota", 429, {"Retry-After": "3600"}))
    with pytest.raises(EndpointError, match=r"status 429: quota \(1 attempt; it asks to wait 3600"):
        client(endpoint, clock).post("/x", {})
    assert clock.slept == []


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_refusals_are_not_retried(endpoint: Any, clock: Any, reply: Any, status: int) -> None:
    endpoint.script(reply({"error": "no such model"}, status, {"Location": "http://else"}))
    with pytest.raises(StatusError, match=rf"status {status}: no such model \(1 attempt\)"):
        client(endpoint, clock).post("/x", {})
    assert len(endpoint.requests) == 1


def test_cut_connections_are_retried(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(b'{"a": 1}', cut_after=3), reply(b"x", cut_after=0), reply({"a": 2}))
    assert client(endpoint, clock).post("/x", {}) == {"a": 2}


def test_an_answer_that_is_not_json_is_retried(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(b"<html>gateway</html>"), reply({"a": 2}))
    assert client(endpoint, clock).post("/x", {}) == {"a": 2}
    endpoint.script(reply(b"<html>gateway</html>"))
    with pytest.raises(EndpointError, match="gave an answer that is not JSON: <html>gateway"):
        client(endpoint, clock).post("/x", {})
    endpoint.script(reply(b""))
    with pytest.raises(EndpointError, match=r"not JSON: \(an empty answer\)"):
        client(endpoint, clock).post("/x", {})


def test_slow_answers_time_out(endpoint: Any, reply: Any) -> None:
    endpoint.script(reply({"a": 1}, delay_seconds=0.5), reply({"a": 2}))
    http = client(endpoint, None, timeout_seconds=0.1, first_wait_seconds=0.01)
    assert http.post("/x", {}) == {"a": 2}


def test_a_drip_of_bytes_times_out(endpoint: Any, reply: Any) -> None:
    endpoint.script(reply(b"[" + b" " * 100 + b"]", drip_seconds=0.02))
    http = client(endpoint, None, timeout_seconds=0.2, max_retries=0)
    with pytest.raises(EndpointError, match=r"gave no answer within 0\.2 s \(1 attempt\)"):
        http.post("/x", {})


def test_an_endpoint_that_is_not_there_is_named(clock: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    http = JsonEndpoint(HttpConfig(url=url, max_retries=2), clock=clock)
    with pytest.raises(EndpointError, match=r"a connection error \(ConnectError.*3 attempts"):
        http.post("/x", {})


def test_answers_beyond_the_limit_are_refused(endpoint: Any, clock: Any, reply: Any) -> None:
    endpoint.script(reply(b" " * (1024 * 1024 + 1)))
    http = client(endpoint, clock, max_answer_mib=1, max_retries=0)
    with pytest.raises(EndpointError, match="more than 1 MiB"):
        http.post("/x", {})


def test_key_is_sent_and_never_shown(
    endpoint: Any,
    clock: Any,
    reply: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TEST_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    filler = "x" * 290
    endpoint.script(reply({"error": {"message": f"{filler} bad key {SECRET}"}}, 401))
    http = client(endpoint, clock, api_key_env="TEST_KEY")
    with pytest.raises(EndpointError) as caught:
        http.post("/x", {})
    assert endpoint.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
    shown = f"{caught.value!r} {caught.value} {caplog.text} {http.config!r}"
    assert "sk-" not in shown, "not even half of it where the message is cut"


def test_key_must_be_set_and_usable(
    endpoint: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = client(endpoint, clock, api_key_env="TEST_KEY")
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match="environment variable TEST_KEY, which api_key_env names"):
        http.post("/x", {})
    monkeypatch.setenv("TEST_KEY", "ключ")
    with pytest.raises(ConfigError, match="TEST_KEY holds no usable API key"):
        http.post("/x", {})


@pytest.mark.parametrize("url", [f"http://user:{SECRET}@host/v1", f"https://host/v1?key={SECRET}"])
def test_secrets_in_urls_are_refused_unseen(url: str) -> None:
    with pytest.raises(ConfigError, match="host holds credentials or a query") as caught:
        HttpConfig(url=url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "host/v1"}, "must look like https://host/v1"),
        ({"url": "file:///etc"}, "must look like https://host/v1"),
        ({"timeout_seconds": 0}, "timeout_seconds must be > 0, got 0"),
        ({"max_retries": -1}, "max_retries must be >= 0, got -1"),
        ({"max_answer_mib": 0}, "max_answer_mib must be >= 1, got 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HttpConfig(**{"url": "http://host/v1", **settings})


def test_rate_limit_never_lets_more_through_in_any_minute(clock: Any) -> None:
    limit = RateLimit(10, clock)
    taken = []
    for amount in [3, 4, 3, 5, 25, 1, 9, 2]:
        limit.take(amount)
        taken.append((clock.now(), amount))
    for when, amount in taken:
        window = sum(part for other, part in taken if when - 59.9 < other <= when)
        assert window <= 10 or window == amount == 25
    assert RateLimit(0, clock).take(10**9) is None


def test_rate_limit_is_one_for_all_threads(endpoint: Any, reply: Any) -> None:
    class Counting(Clock):
        def __init__(self) -> None:
            self.waits = 0
            self.lock = threading.Lock()
            self.ahead = 0.0

        def now(self) -> float:
            return super().now() + self.ahead

        def sleep(self, seconds: float) -> None:
            with self.lock:
                self.waits += 1
                self.ahead += seconds

    endpoint.script(reply({}))
    clock = Counting()
    # The clock jumps for all threads, so that no attempt may have a near deadline.
    http = client(endpoint, clock, requests_per_minute=4, timeout_seconds=1e6)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: http.post("/x", {}), range(12)))
    assert clock.ahead >= 2 * 59
    assert len(endpoint.requests) == 12
