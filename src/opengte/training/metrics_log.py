"""Numbers of every step -> ``metrics.jsonl``, one line a step, none twice after a resume."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from opengte.atomic import storage_errors, write_bytes

Number = float | int | str | None


class MetricsLog:
    """Appends a line a step; opened at a step, it first drops all lines behind it.

    Args:
        path: the file; made if absent.
        step: steps finished so far; later lines belong to steps that will be done again.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        self.path = path
        self._keep_until(step)
        with storage_errors(path):
            self._stream = open(path, "ab")  # noqa: SIM115  (closed by close)

    def write(self, values: Mapping[str, Number]) -> None:
        """Append one line; a number that is not finite becomes null, as JSON has no NaN."""
        clean = {name: _finite(value) for name, value in values.items()}
        line = json.dumps(clean, ensure_ascii=False, allow_nan=False) + "\n"
        with storage_errors(self.path):
            self._stream.write(line.encode("utf-8"))
            self._stream.flush()

    def sync(self) -> None:
        """Bring every line to the disk: called before a checkpoint that counts on them."""
        with storage_errors(self.path):
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _keep_until(self, step: int) -> None:
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = content.splitlines(keepends=True)
        kept = [line for line in lines if line.endswith(b"\n") and _step_of(line) <= step]
        if len(kept) != len(lines) or not self.path.exists():
            write_bytes(self.path, b"".join(kept))


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _finite(value: Number) -> Number:
    return None if isinstance(value, float) and not math.isfinite(value) else value
