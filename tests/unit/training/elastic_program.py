"""A training program for torchrun, for a test that kills one of its ranks.

    torchrun ... elastic_program.py FOLDER

Each start of a rank leaves a file ``started-RANK-PID``; rank 0 leaves ``weights.safetensors``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_training import WordBatches, make_encoder

from opengte.losses.config import ImprovedContrastiveConfig
from opengte.training.config import TrainingConfig
from opengte.training.loop import train

CONFIG = TrainingConfig(
    num_steps=30,
    learning_rate=1e-3,
    precision="float32",
    dropout=0.1,
    attention_dropout=0.1,
    checkpoint_every=2,
    micro_batch_tokens=60,
)


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"started-{rank}-{os.getpid()}").touch()
    encoder = make_encoder()
    train(
        encoder,
        WordBatches(size=8),
        CONFIG,
        loss=ImprovedContrastiveConfig(temperature=0.05),
        folder=folder,
        progress=lambda done, total: None,
    )
    if rank == "0":
        weights = {n: p.detach().contiguous() for n, p in encoder.named_parameters()}
        save_file(weights, str(folder / "weights.safetensors"))


if __name__ == "__main__":
    main()
