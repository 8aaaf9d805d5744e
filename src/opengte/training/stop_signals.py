"""SIGTERM and Ctrl-C -> a wish that the loop grants between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class TrainingStopped(SystemExit):
    """The run was asked to stop, saved a checkpoint and leaves; the same command goes on.

    Its code is 128 + the signal's number, as shells expect.
    """


class StopRequest:
    """Whether, and by which signal, this process was asked to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number; SIGTERM's where only another rank was asked."""
        return 128 + (self.signal or signal.SIGTERM)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Inside, a first SIGTERM or SIGINT is noted; a second one acts as it always does.

    Python handles signals in the main thread alone; in another one nothing is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[signal.Signals, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        signal.signal(number, previous[request.signal])

    for wanted in (signal.SIGTERM, signal.SIGINT):
        previous[wanted] = signal.signal(wanted, note)
    try:
        yield request
    finally:
        for wanted, handler in previous.items():
            signal.signal(wanted, handler)
