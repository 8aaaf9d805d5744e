"""Started by ``test_distributed``: trains in several ways, rank 0 keeps the weights.

    python rank_program.py FOLDER JOBS NUM_RANKS PORT

JOBS is a JSON list; a job has a ``name``, the ``strategy`` and perhaps other settings, and
``stop_after``: the step after which the job is left as a kill would leave it.

Ranks are processes of their own, forked before anything is computed: importing torch takes
longer than all the training here.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
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
            "num_steps": 4,
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


def run_rank(rank: int, num_ranks: int, port: str, folder: Path, jobs: list[Any]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    torch.set_num_threads(1)
    with join_world() as world:
        check_gather()
        for job in jobs:
            run_job(job, folder, world.rank)


def main() -> None:
    import opengte.training.sharded  # noqa: F401  (before the ranks fork: it takes seconds)

    folder, jobs, num_ranks, port = sys.argv[1:]
    ranks = []
    for rank in range(int(num_ranks)):
        process = os.fork()
        if process == 0:
            code = 1
            try:
                run_rank(rank, int(num_ranks), port, Path(folder), json.loads(jobs))
                code = 0
            except BaseException:
                print(f"rank {rank} of {num_ranks}:", file=sys.stderr)
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        ranks.append(process)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in ranks]
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
