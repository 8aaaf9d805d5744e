"""Negatives refreshed in real training: one rank or two, straight or resumed, the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

PROGRAM = Path(__file__).with_name("refresh_program.py")


def start(folder: Path, kind: str, *, world_size: int = 1, stop_after: int = 0) -> None:
    """Run the program once a rank, as torchrun would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        **os.environ,
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, str(PROGRAM), str(folder), kind, str(stop_after)]
    processes = [
        subprocess.Popen(
            command,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for rank, (process, output) in enumerate(zip(processes, outputs, strict=True)):
        assert process.returncode == 0, f"rank {rank} of {world_size}:\n{output[-3000:]}"


def refreshed(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Every side file's pairs and rows, by its name."""
    found = {}
    for path in sorted((folder / "refreshed").glob("negatives-*.npz")):
        with np.load(path) as arrays:
            found[path.name] = {name: arrays[name] for name in ("pairs", "rows")}
    return found


def assert_same_negatives(one: Path, two: Path) -> None:
    first, second = refreshed(one), refreshed(two)
    assert list(first) == list(second)
    assert len(first) >= 3
    for name in first:
        for array in ("pairs", "rows"):
            np.testing.assert_array_equal(first[name][array], second[name][array], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dynamic", "remine"])
def test_two_ranks_and_a_resumed_run_learn_the_same(tmp_path: Path, kind: str) -> None:
    straight, resumed, ranks = (tmp_path / name for name in ("straight", "resumed", "ranks"))
    start(straight, kind)
    start(resumed, kind, stop_after=11)
    start(resumed, kind)
    start(ranks, kind, world_size=2, stop_after=10)
    start(ranks, kind, world_size=2)
    assert sum(len(file["pairs"]) for file in refreshed(straight).values()) > 0
    assert_same_negatives(straight, resumed)
    assert_same_negatives(straight, ranks)
    weights, again, both = (
        load_file(folder / "weights.safetensors") for folder in (straight, resumed, ranks)
    )
    for name in weights:
        assert torch.equal(weights[name], again[name]), name
        torch.testing.assert_close(weights[name], both[name], atol=1e-4, rtol=1e-3)
