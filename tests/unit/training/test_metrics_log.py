from __future__ import annotations

import json
import math
from pathlib import Path

from opengte.training.metrics_log import MetricsLog


def write_steps(path: Path, first: int, last: int) -> None:
    log = MetricsLog(path, step=first - 1)
    for step in range(first, last + 1):
        log.write({"step": step, "loss": step / 3})
    log.sync()
    log.close()


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_steps_that_are_done_again_are_not_there_twice(tmp_path: Path) -> None:
    write_steps(tmp_path / "m.jsonl", 1, 9)
    write_steps(tmp_path / "m.jsonl", 6, 8)
    assert steps_in(tmp_path / "m.jsonl") == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_line_cut_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_steps(path, 1, 3)
    with open(path, "ab") as stream:
        stream.write(b'{"step": 4, "lo')
    write_steps(path, 4, 4)
    assert steps_in(path) == [1, 2, 3, 4]


def test_a_new_run_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_steps(path, 1, 3)
    MetricsLog(path, step=0).close()
    assert path.read_text() == ""


def test_what_json_cannot_say_becomes_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl", step=0)
    log.write({"step": 1, "loss": math.nan, "norm": math.inf, "source": "ö"})
    log.close()
    line = json.loads((tmp_path / "m.jsonl").read_text())
    assert line == {"step": 1, "loss": None, "norm": None, "source": "ö"}
