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
    from sentence_transformers import SentenceTransformer

    pairs = []
    for name, function in sorted(vars(functional).items()):
        documentation = inspect.getdoc(function)
        if documentation and inspect.isfunction(function):
            lines = [line for line in documentation.splitlines() if line.strip()]
            source = inspect.getsource(function)
            pairs.append((lines[0], source.split('"""')[-1].strip() or name))
    model = SentenceTransformer(str(minilm_folder), device="cpu")
    model.max_seq_length = 32
    with torch.inference_mode():
        sides = zip(*pairs, strict=True)
        queries, documents = (
            model.encode(list(side), convert_to_tensor=True, show_progress_bar=False)
            for side in sides
        )
    return queries.clone(), documents.clone()
