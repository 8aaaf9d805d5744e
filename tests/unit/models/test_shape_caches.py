"""Products of many shapes do not fill the memory, and it is the bound that does it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import torch
from opengte.models.shape_caches import bound_shape_caches
if sys.argv[1] == "bounded":
    bound_shape_caches()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
weight = torch.randn(1536, 384).bfloat16()
torch.nn.functional.linear(torch.randn(499, 384).bfloat16(), weight)  # loads what it needs
before = resident()
for rows in range(500, 900):
    torch.nn.functional.linear(torch.randn(rows, 384).bfloat16(), weight)
print(resident() - before)
"""


def growth(mode: str) -> float:
    """MiB that 400 products of as many shapes leave behind."""
    unset = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    command = [sys.executable, "-c", PROGRAM, mode]
    done = subprocess.run(
        command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_shapes_leave_little_behind_and_more_without_the_bound() -> None:
    bounded, unbounded = growth("bounded"), growth("unbounded")
    assert bounded < 300
    if unbounded < 300:
        pytest.skip(f"these products keep {unbounded:.0f} MiB here: there is nothing to bound")
    assert unbounded > 1.5 * bounded
