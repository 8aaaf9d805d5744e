"""A training stage -> the most memory its process will hold, before it runs.

    peak = process + weights                          resident now, with all loaded
         + gradients and AdamW's moments              12 bytes a trained parameter
         + a copy of weights and moments              where checkpoints are written beside steps
         + kept activations of the largest batch      measured on small inputs, predicted by lengths
         + what the heap keeps beside them            fitted, see below

oneDNN and PyTorch keep about 4 MiB for each shape of product they have seen, as many as
``models.shape_caches`` lets them, and glibc's heap keeps holes: both were fitted to runs of
all-MiniLM-L6-v2. ``tests/integration/test_plan_memory.py`` compares forecasts with runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opengte.training.config import TrainingConfig

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

MIB = 2**20
GRADIENT_AND_MOMENT_BYTES = 12
CHECKPOINT_BYTES = 12
LATER_IMPORTS_MIB = 150.0
"""What the first step brings along: torch's compiler, which optimisers import; kernels."""
HEAP_MIB = 200.0
HEAP_SHARE = 0.15
"""Caches of shapes and holes in the heap: a constant, and a share of the activations."""
DRAWN_BATCHES = 200
"""No more batches are drawn to find the largest of a run."""


def peak_training_mib(
    encoder: Encoder,
    training: TrainingConfig,
    lengths: NDArray[np.int64],
    *,
    resident: float,
    texts_per_step: int,
    num_steps: int,
) -> float:
    """Highest resident memory of a process that trains, in MiB.

    Args:
        encoder: as it is set up for training.
        training: of the stage.
        lengths: tokens of a sample of its texts.
        resident: what the process holds once the model is loaded, MiB.
        texts_per_step: queries, documents and hard negatives of one step.
        num_steps: of the stage.
    """
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    copies = GRADIENT_AND_MOMENT_BYTES
    if training.asynchronous_checkpoints and num_steps > training.checkpoint_every:
        copies += CHECKPOINT_BYTES
    draws = min(num_steps, DRAWN_BATCHES)
    kept = kept_activation_bytes(encoder, training, lengths, texts_per_step, num_draws=draws) / MIB
    heap = HEAP_MIB + HEAP_SHARE * kept
    return resident + trained * copies / MIB + kept + LATER_IMPORTS_MIB + heap


def kept_activation_bytes(
    encoder: Encoder,
    training: TrainingConfig,
    lengths: NDArray[np.int64],
    texts_per_step: int,
    *,
    num_draws: int,
) -> float:
    """Bytes that graphs hold at once in the largest of ``num_draws`` random batches."""
    import torch

    from opengte.text.truncation import TokenizedText
    from opengte.training.activation_memory import activation_budget, measure_activations
    from opengte.training.batching import micro_batches
    from opengte.training.distributed import World
    from opengte.training.gradient_cache import num_kept

    model = measure_activations(encoder, max_tokens=encoder.max_tokens)
    world = World(0, 1, torch.device("cpu"))
    budget = activation_budget(training, world, encoder.parameters())
    draw = np.random.default_rng(0)
    samples = draw.choice(lengths, size=(num_draws, texts_per_step))
    largest = max(samples, key=model.predict)
    texts = [TokenizedText(np.zeros(length, dtype=np.int32)) for length in largest]
    parts = micro_batches(texts, max_tokens=training.micro_batch_tokens)
    number = num_kept(parts, model, mode=training.gradient_cache, budget=budget)
    sizes = [model.predict(part.lengths) for part in parts]
    return sum(sizes[:number]) + max(sizes[number:], default=0.0)


def resident_mib() -> float:
    """What this process holds now, in MiB; its peak so far where the system does not say."""
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB
    return pages * resource.getpagesize() / MIB
