"""Embeddings -> classes: of one text, or of a pair (entailment, zero-shot classification).

Axes: N texts or pairs, D embedding size, L classes.

Sentence-BERT (Reimers and Gurevych 2019, 3): a pair is classified from [u, v, |u - v|].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from opengte.atomic import atomic_folder, write_json
from opengte.errors import ConfigError, ModelFolderError
from opengte.model_files import read_json
from opengte.models.folder_writer import save_tensors

Inputs = Literal["text", "pair"]
WEIGHTS, DESCRIPTION = "classifier.safetensors", "classifier.json"


class EmbeddingClassifier(nn.Module):
    """One linear layer on embeddings, in float32.

    Args:
        dimensions: D.
        labels: names of the classes, in the order of the logits.
        inputs: ``text`` classifies u; ``pair`` classifies [u, v, |u - v|].

    Raises:
        ConfigError: fewer than two classes, or a name twice.
    """

    def __init__(self, dimensions: int, labels: Sequence[str], *, inputs: Inputs = "text") -> None:
        super().__init__()
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise ConfigError(f"labels must be two or more distinct names, got {list(labels)}")
        self.dimensions = dimensions
        self.labels = tuple(labels)
        self.inputs = inputs
        self.linear = nn.Linear(dimensions * (3 if inputs == "pair" else 1), len(labels))

    def forward(
        self, first: Float[Tensor, "N D"], second: Float[Tensor, "N D"] | None = None
    ) -> Float[Tensor, "N L"]:
        """Logits.

        Raises:
            ConfigError: a second embedding is missing, or there is none to be.
        """
        if (second is None) != (self.inputs == "text"):
            raise ConfigError(f"a classifier of a {self.inputs} needs one embedding of each")
        if second is not None:
            first = torch.cat([first, second, (first - second).abs()], dim=-1)
        logits: Tensor = self.linear(first.float())
        return logits

    def probabilities(
        self, first: NDArray[np.float32], second: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """(N, L) probabilities from embeddings that are at hand."""
        with torch.no_grad():
            other = None if second is None else torch.from_numpy(second)
            logits = self(torch.from_numpy(first), other)
        return np.asarray(logits.softmax(-1).numpy())

    def save(self, folder: str | Path) -> None:
        """Write it to a folder of its own."""
        with atomic_folder(folder) as target:
            save_tensors(self.state_dict(), target / WEIGHTS)
            described = {
                "dimensions": self.dimensions,
                "labels": list(self.labels),
                "inputs": self.inputs,
            }
            write_json(target / DESCRIPTION, described)

    @classmethod
    def load(cls, folder: str | Path) -> EmbeddingClassifier:
        """Read what ``save`` wrote.

        Raises:
            ModelFolderError: it is incomplete, or its parts do not fit.
        """
        path = Path(folder)
        described = read_json(path / DESCRIPTION, required=True)
        if not (path / WEIGHTS).is_file():
            raise ModelFolderError(f"{WEIGHTS} is missing", path=path)
        tensors = load_file(path / WEIGHTS)
        made = cls(described["dimensions"], described["labels"], inputs=described["inputs"])
        expected = {name: value.shape for name, value in made.state_dict().items()}
        if {name: value.shape for name, value in tensors.items()} != expected:
            raise ModelFolderError(f"{WEIGHTS} does not fit {DESCRIPTION}", path=path)
        made.load_state_dict(tensors)
        return made
