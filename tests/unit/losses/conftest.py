"""What the tests of this folder share: slow references beside them, and real embeddings."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def minilm_pairs(minilm_folder: Path) -> tuple[Tensor, Tensor]:
    """MiniLM's embeddings of docstrings' first lines and of the functions below them."""
    import torch.nn.functional as functional

    from opengte.models.weights import load_encoder

    pairs = []
    for name, function in sorted(vars(functional).items()):
        documentation = inspect.getdoc(function)
        if documentation and inspect.isfunction(function):
            lines = [line for line in documentation.splitlines() if line.strip()]
            source = inspect.getsource(function)
            pairs.append((lines[0], source.split('"""')[-1].strip() or name))
    encoder = load_encoder(minilm_folder, max_tokens=32, dtype="float32")
    queries, documents = (encoder.encode(side) for side in zip(*pairs, strict=True))
    return torch.from_numpy(queries), torch.from_numpy(documents)
