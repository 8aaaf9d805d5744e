"""Started once per rank by ``test_distributed``: trains in several ways, rank 0 keeps the weights.

    python rank_program.py FOLDER JOBS

JOBS is a JSON list; a job has a ``name``, the ``strategy`` and perhaps other settings, and
``stop_after``: the step after which the job is left as a kill would leave it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from tiny_training import WordBatches, make_encoder

from opengte.contracts import StepContext
from opengte.losses.config import ImprovedContrastiveConfig
from opengte.training.config import TrainingConfig
from opengte.training.distributed import GatherRows, join_world
from opengte.training.loop import train


class LeftHere(Exception):
    pass


class Watcher:
    """Embeds on rank 0 alone (a rank may not need the others for that), and stops where told."""

    def __init__(self, stop_after: int | None) -> None:
        self.stop_after = stop_after

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        if context.rank == 0:
            context.encoder.encode(["w1 w2", "w3"])
        context.barrier()
        if context.step == self.stop_after:
            raise LeftHere
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def run_job(job: dict[str, Any], folder: Path, rank: int) -> None:
    name, stop_after = job.pop("name"), job.pop("stop_after", None)
    dropout = job.pop("dropout", 0.0)
    config = TrainingConfig(
        **{
            "num_steps": 6,
            "learning_rate": 1e-3,
            "precision": "float32",
            "dropout": dropout,
            "attention_dropout": dropout,
            "checkpoint_every": 2,
            "micro_batch_tokens": 60,
            # Large: where a gradient is nearly 0, AdamW turns its rounding errors into steps.
            "adam_epsilon": 1e-4,
            **job,
        }
    )
    encoder = make_encoder(seed=rank)  # rank 0's weights must win
    try:
        train(
            encoder,
            WordBatches(size=13),
            config,
            loss=ImprovedContrastiveConfig(temperature=0.05),
            folder=folder / name,
            callbacks=[Watcher(stop_after)],
            progress=lambda done, total: None,
        )
    except LeftHere:
        return
    vectors = torch.from_numpy(encoder.encode(["w1 w2", "w3"]))
    if rank == 0:
        weights = {n: p.detach().clone().contiguous() for n, p in encoder.named_parameters()}
        save_file({**weights, "vectors": vectors}, str(folder / f"{name}.safetensors"))


def check_gather() -> None:
    """The gather's gradient is that of one process which holds all rows."""
    rank, size = dist.get_rank(), dist.get_world_size()
    num_rows = tuple(range(1, size + 1))
    torch.manual_seed(3)
    everything = torch.randn(sum(num_rows), 3, dtype=torch.float64)
    weights = torch.randn(size, sum(num_rows), 3, dtype=torch.float64)
    own = everything.split(num_rows)[rank].clone().requires_grad_()
    gathered = GatherRows.apply(own, num_rows, rank)
    assert torch.equal(gathered, everything)
    ((gathered**2) * weights[rank]).sum().backward()
    expected = (2 * everything * weights.sum(0)).split(num_rows)[rank]
    torch.testing.assert_close(own.grad, expected)


def main() -> None:
    folder, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    with join_world() as world:
        if world.size > 1:
            check_gather()
        for job in jobs:
            run_job(job, folder, world.rank)


if __name__ == "__main__":
    main()
