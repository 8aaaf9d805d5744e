"""Measurements that take long -> a file that grows by one line each, so that any may be the last.

A benchmark asks for its measurements in order; those that the file holds already, from this
machine, are read and not made again. ``--minutes`` ends a turn early, with exit code 75: the same
command goes on. Every row carries the commit it was measured at.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
GO_ON = 75
"""Exit code of a turn that is over before all is measured (EX_TEMPFAIL)."""

Row = dict[str, Any]


def machine(*packages: str) -> Row:
    """What the figures depend on, with the versions of ``packages``; names no computer."""
    facts = dict(
        line.split(":", 1)
        for line in _read(Path("/proc/cpuinfo")).split("\n\n")[0].splitlines()
        if ":" in line
    )
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    return {
        "processor": facts.get("model name", platform.processor()),
        "family_model": f"{facts.get('cpu family')}/{facts.get('model')}",
        "units": [unit for unit in UNITS if unit in flags],
        "num_cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        **{package.replace("-", "_"): _version(package) for package in packages},
    }


def commit(*code: str) -> str:
    """The last that changed the measured ``code``; with ``+`` where changes are not committed."""
    code = code or ("src", "benchmarks")
    changed = _git("status", "--porcelain", "--", *code)
    return (_git("log", "-1", "--format=%h", "--", *code) or "unknown") + ("+" if changed else "")


class OutOfTimeError(Exception):
    """No further measurement is begun in this turn."""


class Cells:
    """The measurements of one benchmark.

    Args:
        path: where they are kept; None keeps nothing.
        minutes: after which no further one is begun; None = never.
        code: folders of the repository whose code is measured.
    """

    def __init__(
        self, path: Path | None, *, minutes: float | None = None, code: tuple[str, ...] = ()
    ) -> None:
        self.path, self.code = path, code
        self.ends = None if minutes is None else time.monotonic() + 60 * minutes
        self.rows: dict[str, Row] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                cell = json.loads(line)
                self.rows[cell["name"]] = cell["row"]

    def measure(self, settings: Mapping[str, Any], run: Callable[[], Row]) -> Row:
        """The row of these settings: read, or made by ``run`` and kept.

        Raises:
            OutOfTimeError: it is not there yet, and the minutes are over.
        """
        name = json.dumps(settings, sort_keys=True)
        if name not in self.rows:
            if self.ends is not None and time.monotonic() > self.ends:
                print(f"{len(self.rows)} measurements are kept; the same command goes on")
                raise OutOfTimeError
            self.rows[name] = {**run(), "commit": commit(*self.code)}
            if self.path is not None:
                with open(self.path, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps({"name": name, "row": self.rows[name]}) + "\n")
        return self.rows[name]


def run_worker(worker: Path, *arguments: str, name: str) -> Row:
    """Run a program in one thread; the last line it prints is its row.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{ROOT / 'src'}:{environment.get('PYTHONPATH', '')}"
    command = [sys.executable, str(worker), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def write_results(
    path: Path | None,
    where: Row,
    *,
    ratios: Mapping[str, float],
    goals: Mapping[str, float],
    rows: list[Row],
    **more: Any,
) -> None:
    """Print the ratios, and write the results file where one is wanted."""
    for name, ratio in ratios.items():
        goal = f"   (goal {goals[name]})" if name in goals else ""
        print(f"{name:34} {ratio:7.3f}{goal}")
    result = {
        "machine": where,
        "commit": ", ".join(sorted({row["commit"] for row in rows})),
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "goals": dict(goals),
        **more,
        "rows": rows,
    }
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
