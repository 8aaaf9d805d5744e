"""An HTTP endpoint on this machine that behaves, or misbehaves, as a test says."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Reply:
    """What the endpoint does with one request.

    Attributes:
        body: bytes, or a value that is sent as JSON.
        status, headers: of the answer.
        delay_seconds: waited before anything is sent.
        drip_seconds: waited between single bytes; 0 sends all at once.
        cut_after: the connection is cut after so many bytes of the body; None = never.
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    drip_seconds: float = 0.0
    cut_after: int | None = None

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Request:
    """What the endpoint was asked."""

    path: str
    headers: dict[str, str]
    payload: Any


class Endpoint:
    """A server in a thread; ``answer`` decides what each request gets."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Reply] = lambda request: Reply(b"{}")
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def script(self, *replies: Reply) -> None:
        """Give these replies in order, the last one for ever."""
        left = list(replies)

        def next_reply(request: Request) -> Reply:
            with self.lock:
                return left.pop(0) if len(left) > 1 else left[0]

        self.answer = next_reply

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(endpoint) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                payload = json.loads(self.rfile.read(length))
                request = Request(self.path, dict(self.headers), payload)
                with endpoint.lock:
                    endpoint.requests.append(request)
                self.reply(endpoint.answer(request))

            def reply(self, reply: Reply) -> None:
                time.sleep(reply.delay_seconds)
                content = reply.content()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if reply.cut_after is not None:
                    self.wfile.write(content[: reply.cut_after])
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                elif reply.drip_seconds:
                    for byte in content:
                        self.wfile.write(bytes([byte]))
                        time.sleep(reply.drip_seconds)
                else:
                    self.wfile.write(content)

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True  # the client has given up

            def log_message(self, *args: object) -> None:
                pass

        return Handler


class FastClock:
    """A clock that never waits and remembers what it was asked to."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._ahead = 0.0

    def now(self) -> float:
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._ahead += seconds

    def jitter(self) -> float:
        return 0.5


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A fresh endpoint."""
    server = Endpoint()
    yield server
    server.stop()


@pytest.fixture
def reply() -> type[Reply]:
    """The class of replies: test files cannot import a conftest."""
    return Reply


@pytest.fixture
def clock() -> FastClock:
    """A clock that never waits."""
    return FastClock()
