"""A rank that is killed under torchrun takes the others along, and all of them go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opengte.training.checkpoint import CheckpointStore

PROGRAM = Path(__file__).with_name("elastic_program.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
PATIENCE = 900.0


def command(folder: Path) -> list[str]:
    """Two ranks on this machine, started again at most three times."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, "--nproc-per-node", "2", "--max-restarts", "3", str(PROGRAM), str(folder)]


def newest_step(folder: Path) -> int:
    store = CheckpointStore(folder / "checkpoints", keep_last=2, asynchronous=False)
    return max(store.steps(), default=0)


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"]) for row in rows]


@pytest.mark.slow
def test_a_rank_killed_under_torchrun_restarts_and_finishes(tmp_path: Path) -> None:
    calm, folder = tmp_path / "calm", tmp_path / "run"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ENVIRONMENT}
    subprocess.run(command(calm), timeout=PATIENCE, check=True, **quiet)  # type: ignore[call-overload]
    with subprocess.Popen(command(folder), **quiet) as process:  # type: ignore[call-overload]
        ends = time.monotonic() + PATIENCE
        while newest_step(folder) < 4:
            assert process.poll() is None, "it was done before the kill"
            assert time.monotonic() < ends
            time.sleep(0.005)
        victim = next(folder.glob("started-1-*"))
        os.kill(int(victim.name.rsplit("-", 1)[1]), signal.SIGKILL)
        assert process.wait(timeout=PATIENCE) == 0
    assert len(list(folder.glob("started-0-*"))) >= 2, "it was done before the kill"
    ours, theirs = (load_file(f / "weights.safetensors") for f in (folder, calm))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert losses(folder) == losses(calm)
