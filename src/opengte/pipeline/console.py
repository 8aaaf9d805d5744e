"""What a long run tells the person who waits: one line a stage, one moving line inside it.

Everything goes to stderr; on a terminal the moving line is redrawn, elsewhere a line is printed
now and then.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

from opengte.contracts import Progress

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_REDRAWS = 0.2
LEAST_SHARE_FOR_FORECAST = 0.03


class Console:
    """Prints the progress of a run.

    Args:
        stream: where to; None is stderr, looked up when something is printed.
        quiet: print nothing.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._moving = False

    def line(self, text: str = "") -> None:
        """Print ``text`` on a line of its own."""
        if self._quiet:
            return
        self._clear()
        print(text, file=self._out, flush=True)

    def progress(self, label: str, *, unit: str = "") -> Progress:
        """A callback that shows ``label``, how much is done and how long the rest may take."""
        started = time.monotonic()
        last = [0.0]

        def update(done: int, total: int | None) -> None:
            now = time.monotonic()
            every = SECONDS_BETWEEN_REDRAWS if self._out.isatty() else SECONDS_BETWEEN_LINES
            finished = total is not None and done >= total
            if self._quiet or (now - last[0] < every and not finished):
                return
            first = last[0] == 0.0
            last[0] = now
            if finished and first and now - started < every:
                return
            self._move(_progress_text(label, done, total, unit, now - started))

        return update

    def moving(self, text: str) -> None:
        """Show ``text`` on the moving line."""
        if not self._quiet:
            self._move(text)

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stderr

    def _move(self, text: str) -> None:
        if self._out.isatty():
            self._out.write(f"\r\x1b[2K  {text}")
            self._out.flush()
            self._moving = True
        else:
            print(f"  {text}", file=self._out, flush=True)

    def _clear(self) -> None:
        if self._moving:
            self._out.write("\r\x1b[2K")
            self._moving = False


def format_seconds(seconds: float) -> str:
    """``7 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def _progress_text(label: str, done: int, total: int | None, unit: str, elapsed: float) -> str:
    what = f" {unit}" if unit else ""
    if not total:
        return f"{label}: {done:,}{what}"
    # The first batches are slow (caches, threads): what they say about the rest is nonsense.
    too_early = done < total * LEAST_SHARE_FOR_FORECAST
    rest = elapsed / max(done, 1) * (total - done)
    left = "" if too_early or done >= total else f", about {format_seconds(rest)} left"
    return f"{label}: {done:,} of {total:,}{what} ({done / total:.0%}{left})"
