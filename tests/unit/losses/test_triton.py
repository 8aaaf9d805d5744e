"""The Triton kernels in Triton's interpreter, on a CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opengte.errors import MissingExtraError
from opengte.losses.tiled import tiled_contrastive_loss

CASES = Path(__file__).with_name("triton_cases.py")
HAS_TRITON = importlib.util.find_spec("triton") is not None


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON, reason="the extra triton is not installed")
def test_kernels_pass_their_cases_in_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n0", "-p", "no:cacheprovider", str(CASES)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_asking_for_kernels_without_triton_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opengte.losses.triton_kernels", None)
    vectors = torch.randn(3, 4)
    with pytest.raises(MissingExtraError, match=r"triton is not installed; .*opengte\[triton\]"):
        tiled_contrastive_loss(vectors, vectors, temperature=0.05, kernel="triton")
