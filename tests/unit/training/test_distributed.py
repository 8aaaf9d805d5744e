"""1 = 2 = 4 ranks, in real processes; and a run goes on, on any number of them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_program import run_job
from safetensors.torch import load_file
from torch import Tensor

PROGRAM = Path(__file__).with_name("rank_program.py")
PATIENCE = 900.0
"""Seconds after which ranks are taken to wait for each other for ever, on a busy machine too."""


def start_ranks(num_ranks: int, folder: Path, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Run the jobs in as many processes, one group of ranks for all of them, and wait."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(PROGRAM), str(folder), json.dumps(list(jobs)), str(num_ranks)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        # DeepSpeed compiles an extension; a lock that a killed process left would be waited for.
        "TORCH_EXTENSIONS_DIR": str(folder / "extensions"),
    }
    with subprocess.Popen(
        [*command, str(port)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, messages = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the ranks, too
            raise
    assert process.returncode == 0, messages[-5000:]


def relative_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    flat_a = torch.cat([a[name].flatten().double() for name in sorted(a)])
    flat_b = torch.cat([b[name].flatten().double() for name in sorted(a)])
    return float((flat_a - flat_b).norm() / flat_b.norm())


def bit_for_bit(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def one_and_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    jobs = [
        {"name": "ddp", "strategy": "ddp"},
        {"name": "ddp-cached", "strategy": "ddp", "gradient_cache": "always"},
        {"name": "fsdp", "strategy": "fsdp"},
        {"name": "fsdp-cached", "strategy": "fsdp", "gradient_cache": "always"},
        {"name": "fsdp-some-kept", "strategy": "fsdp", "activation_memory_gib": 0.001},
        {"name": "ddp-dropout", "strategy": "ddp", "dropout": 0.1},
        {
            "name": "ddp-dropout-cached",
            "strategy": "ddp",
            "dropout": 0.1,
            "gradient_cache": "always",
        },
        {"name": "ddp-resumed", "strategy": "ddp", "dropout": 0.1, "stop_after": 3},
        {"name": "ddp-resumed", "strategy": "ddp", "dropout": 0.1},
        {"name": "fsdp-dropout", "strategy": "fsdp", "dropout": 0.1},
        {"name": "fsdp-resumed", "strategy": "fsdp", "dropout": 0.1, "stop_after": 3},
        {"name": "fsdp-resumed", "strategy": "fsdp", "dropout": 0.1},
        {"name": "ddp-moves", "strategy": "ddp", "stop_after": 3},
        {"name": "fsdp-moves", "strategy": "fsdp", "stop_after": 3},
    ]
    here = [{"name": "single"}, {"name": "single-moves", "stop_after": 3}]
    for job in here:
        run_job(job, folder, rank=0)
    start_ranks(2, folder, [*jobs, {"name": "single-moves", "strategy": "fsdp"}])
    for job in ({"name": "ddp-moves"}, {"name": "fsdp-moves"}):
        run_job(dict(job), folder, rank=0)
    return folder


def weights(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / f"{name}.safetensors")


@pytest.mark.parametrize(
    "name",
    ["ddp", "fsdp", "ddp-cached", "fsdp-cached", "fsdp-some-kept"],
)
def test_two_ranks_equal_one(one_and_two_ranks: Path, name: str) -> None:
    single, shared = weights(one_and_two_ranks, "single"), weights(one_and_two_ranks, name)
    assert relative_difference(shared, single) < 1e-6


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_caching_changes_no_bit_on_two_ranks(one_and_two_ranks: Path, name: str) -> None:
    plain, cached = (weights(one_and_two_ranks, n) for n in (name, f"{name}-cached"))
    assert bit_for_bit(plain, cached)


def test_caching_changes_no_bit_with_dropout(one_and_two_ranks: Path) -> None:
    plain = weights(one_and_two_ranks, "ddp-dropout")
    assert bit_for_bit(plain, weights(one_and_two_ranks, "ddp-dropout-cached"))


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_resumed_equals_straight_bit_for_bit_on_two_ranks(
    one_and_two_ranks: Path, name: str
) -> None:
    straight = weights(one_and_two_ranks, f"{name}-dropout")
    assert bit_for_bit(weights(one_and_two_ranks, f"{name}-resumed"), straight)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "single"])
def test_a_run_goes_on_with_another_number_of_ranks(one_and_two_ranks: Path, name: str) -> None:
    """ddp and fsdp move from two ranks to one, single moves to two with fsdp."""
    straight = weights(one_and_two_ranks, "single")
    assert relative_difference(weights(one_and_two_ranks, f"{name}-moves"), straight) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_four_ranks_equal_one(one_and_two_ranks: Path, tmp_path: Path, strategy: str) -> None:
    start_ranks(4, tmp_path, [{"name": "four", "strategy": strategy}])
    single = weights(one_and_two_ranks, "single")
    assert relative_difference(weights(tmp_path, "four"), single) < 1e-6


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the extra deepspeed is not installed"
)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_equals_one_rank_and_goes_on(
    one_and_two_ranks: Path, tmp_path: Path, stage: int
) -> None:
    common = {"strategy": "deepspeed", "deepspeed_stage": stage}
    jobs = [
        {"name": "straight", **common},
        {"name": "one-pass", **common, "micro_batch_tokens": 10_000},
        {"name": "resumed", **common, "stop_after": 3},
        {"name": "resumed", **common},
        {"name": "moves", **common, "stop_after": 3},
    ]
    start_ranks(2, tmp_path, jobs)
    run_job({"name": "moves"}, tmp_path, rank=0)
    single = weights(one_and_two_ranks, "single")
    for name in ("straight", "one-pass", "resumed", "moves"):
        assert relative_difference(weights(tmp_path, name), single) < 1e-6, name
    assert bit_for_bit(weights(tmp_path, "resumed"), weights(tmp_path, "straight"))
