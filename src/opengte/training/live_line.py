"""What a step gave -> one line on stderr that a person can follow.

On a terminal the line is redrawn; elsewhere (a log file, CI) a line is printed every so often.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from typing import TextIO

import torch
from rich.console import Console
from rich.live import Live
from rich.text import Text

GIB = 2**30
SMOOTHING = 0.1
"""Weight of a new step in the shown loss and speed."""


@dataclass(frozen=True)
class StepReport:
    """What the line and the log say about a step.

    Attributes:
        step, num_steps: finished, and of the whole run.
        source: of the batch; empty when sources are mixed.
        loss: nats per pair.
        num_tokens: read by all ranks.
        padding: share of computed positions that held no token, 0 to 1.
        seconds: of the step, wall time.
        memory_gib: the process's peak so far (GPU memory where there is a GPU).
    """

    step: int
    num_steps: int
    source: str
    loss: float
    num_tokens: int
    padding: float
    seconds: float
    memory_gib: float


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory of this process so far, GiB: of the GPU where it runs on one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


class LiveLine:
    """Follows a run.

    Args:
        stream: where the line goes.
        every_seconds: between two lines where there is no terminal.
    """

    def __init__(self, stream: TextIO | None = None, *, every_seconds: float = 30.0) -> None:
        self.stream = stream or sys.stderr
        self.every_seconds = every_seconds
        self.losses: dict[str, float] = {}
        self.seconds_per_step = 0.0
        self.tokens_per_second = 0.0
        self._printed = 0.0
        self._live: Live | None = None
        if self.stream.isatty():
            console = Console(file=self.stream)
            self._live = Live(console=console, auto_refresh=False, transient=False)
            self._live.start()

    def update(self, report: StepReport) -> None:
        """Take in a step."""
        self._smooth(report)
        line = self.text(report)
        if self._live is not None:
            self._live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
        elif report.step == report.num_steps or self._is_due():
            print(line, file=self.stream, flush=True)

    def note(self, message: str) -> None:
        """Say something that stays."""
        if self._live is not None:
            self._live.console.print(message, markup=False, highlight=False)
        else:
            print(message, file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the last state standing."""
        if self._live is not None:
            self._live.stop()

    def text(self, report: StepReport) -> str:
        """The line, without colours."""
        losses = "  ".join(
            f"{source or 'mixed'} {loss:.4f}" for source, loss in sorted(self.losses.items())
        )
        left = (report.num_steps - report.step) * self.seconds_per_step
        return (
            f"step {report.step}/{report.num_steps}  loss {losses}  "
            f"{self.tokens_per_second:,.0f} tokens/s  padding {report.padding:.1%}  "
            f"{report.memory_gib:.2f} GiB  {format_seconds(left)} left"
        )

    def _smooth(self, report: StepReport) -> None:
        old = self.losses.get(report.source)
        self.losses[report.source] = _blend(old, report.loss)
        first = self.seconds_per_step == 0.0
        self.seconds_per_step = _blend(None if first else self.seconds_per_step, report.seconds)
        speed = report.num_tokens / max(report.seconds, 1e-9)
        self.tokens_per_second = _blend(None if first else self.tokens_per_second, speed)

    def _is_due(self) -> bool:
        now = time.monotonic()
        if self._printed and now - self._printed < self.every_seconds:
            return False
        self._printed = now
        return True


def format_seconds(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _blend(old: float | None, new: float) -> float:
    return new if old is None else (1 - SMOOTHING) * old + SMOOTHING * new
