"""What autograd keeps for the backward pass: measured on small inputs, predicted for all others.

Axes: L tokens of a text, T tokens of a micro-batch.

What a layer keeps grows with T; attention probabilities grow with the sum of L^2. So three small
forward passes give the three coefficients of any encoder, whatever its operations keep, on any
device, with or without dropout and gradient checkpointing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor, nn

from opengte.text.truncation import TokenizedText
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.random_state import seeded

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

GIB = 2**30
SHARE_OF_FREE_MEMORY = 0.6
"""The rest is left to gradients, the loss and whatever else runs on the machine."""


class KeptBytes:
    """Counts the storages that graphs hold on to; parameters are not counted.

    A storage that several operations keep counts once, as it takes memory once.
    """

    def __init__(self, module: nn.Module) -> None:
        self.total = 0
        self._seen = {p.untyped_storage().data_ptr() for p in module.parameters()}

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is kept by operations inside."""
        with torch.autograd.graph.saved_tensors_hooks(self._count, _as_it_is):
            yield

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        # Not the tensor: an operation that keeps its own output would hold itself in memory.
        return tensor.detach()


@dataclass(frozen=True)
class ActivationModel:
    """Bytes that the graph of one micro-batch holds on to.

    Attributes:
        base: for the micro-batch (weights cast to 16 bits).
        per_token: for each of its T tokens.
        per_pair: for each pair of tokens of one text, the sum of L^2 over its texts.
    """

    base: float
    per_token: float
    per_pair: float

    def predict(self, lengths: NDArray[np.int64]) -> float:
        """Bytes for texts of these lengths."""
        tokens, pairs = float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())
        return self.base + self.per_token * tokens + self.per_pair * pairs


def measure_activations(encoder: Encoder, *, max_tokens: int) -> ActivationModel:
    """Find the coefficients of an encoder as it is set up for training.

    Args:
        encoder: on its device, in its precision, with its dropout.
        max_tokens: the longest text of the run.
    """
    short = min(32, max_tokens)
    shapes = [(2, short), (8, short), (2, max_tokens)]
    was_training = encoder.training
    encoder.train()
    measured = [_kept_by(encoder, num_texts, length) for num_texts, length in shapes]
    encoder.train(was_training)
    features = [[1.0, n * length, n * length**2] for n, length in shapes]
    # Never negative: a text of one length alone does not tell tokens from pairs.
    coefficients, _ = nnls(np.asarray(features), np.asarray(measured, dtype=np.float64))
    return ActivationModel(*map(float, coefficients))


def _kept_by(encoder: Encoder, num_texts: int, length: int) -> int:
    ids = np.zeros(length, dtype=np.int32)
    packed = encoder.pack([TokenizedText(ids)] * num_texts)
    kept = KeptBytes(encoder)
    with torch.enable_grad(), seeded(0, encoder.device), kept.counted():
        output = encoder(packed)
    del output
    return kept.total


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def activation_budget(
    config: TrainingConfig, world: World, parameters: Iterable[nn.Parameter]
) -> int:
    """Bytes that the activations of a step may take on this rank."""
    if config.activation_memory_gib is not None:
        return int(config.activation_memory_gib * GIB)
    gradients_and_moments = 12 * sum(p.numel() for p in parameters)
    free = max(0, free_memory(world.device) - gradients_and_moments)
    sharers = 1 if world.device.type == "cuda" else world.num_local
    return int(SHARE_OF_FREE_MEMORY * free / sharers)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on ``device``."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return min(_available_bytes(), _control_group_bytes())


def _available_bytes(path: Path = Path("/proc/meminfo")) -> int:
    """MemAvailable where Linux says it, else 4 GiB."""
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 4 * GIB


def _control_group_bytes(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container's limit still leaves; page cache can be taken back, so it counts as free."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 2**63
    return max(0, limit - used + int(facts.get("inactive_file", 0)))
