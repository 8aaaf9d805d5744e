"""Started once per rank by ``test_refresh_in_training``: trains while negatives are refreshed.

    python refresh_program.py FOLDER KIND STOP_AFTER

KIND is ``dynamic`` or ``remine``. STOP_AFTER is the step after which the run is left as a kill
would leave it; 0 = never. Rank 0 keeps the weights and the names of the side files.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "training"))

import numpy as np
import torch
from safetensors.torch import save_file
from tiny_training import make_encoder

from opengte.contracts import StepContext, TrainingCallback
from opengte.losses.config import ImprovedContrastiveConfig
from opengte.mining.dynamic import DynamicConfig, DynamicNegatives
from opengte.mining.mine import MiningResult, mine_negatives
from opengte.mining.remine import RemineConfig, RemineNegatives
from opengte.mining.rules import MiningRules
from opengte.mining.side_files import RefreshedBatches
from opengte.records import Batch, Pair
from opengte.training.config import TrainingConfig
from opengte.training.distributed import join_world
from opengte.training.loop import train

RULES = MiningRules(num_negatives=2, last_rank=24, perc_pos=None, near_duplicate=None)
NUM_STEPS = 18


class LeftHere(Exception):
    pass


class Leave:
    """Stops where a kill would."""

    def __init__(self, stop_after: int) -> None:
        self.stop_after = stop_after

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        if context.step == self.stop_after:
            raise LeftHere
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def make_pairs() -> list[Pair]:
    draw = np.random.default_rng(0)
    pairs = []
    for topic in range(40):
        words = [f"w{4 * topic + int(i)}" for i in draw.integers(0, 12, 12)]
        pairs.append(Pair(query=" ".join(words[:4]), positive=" ".join(words[3:])))
    return pairs


class MinedBatches:
    """Ten mined pairs a batch, in order."""

    fingerprint = "mined"

    def __init__(self, mined: MiningResult) -> None:
        self.mined = mined

    def batch(self, step: int) -> Batch:
        rows = (np.arange(10) + 10 * step) % len(self.mined.pairs)
        pairs = [self.mined.pairs[row] for row in rows.tolist()]
        return Batch(
            step=step,
            source="mined",
            queries=[pair.query for pair in pairs],
            positives=[pair.positive for pair in pairs],
            negatives=[pair.negatives for pair in pairs],
            row_ids=rows,
            row_sources=["mined"] * 10,
        )


def make_refresh(kind: str, mined: MiningResult, folder: Path) -> TrainingCallback:
    if kind == "dynamic":
        config = DynamicConfig(every_steps=4, factor=1.01, max_score=2.0, offset=2)
        return DynamicNegatives(mined, config, folder=folder)
    return RemineNegatives(
        mined, None, RULES, folder, RemineConfig(every_steps=4, block_pairs=9, shard_texts=11)
    )


def main() -> None:
    folder, kind, stop_after = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    config = TrainingConfig(
        num_steps=NUM_STEPS,
        learning_rate=3e-3,
        precision="float32",
        checkpoint_every=3,
        # Large: where a gradient is nearly 0, AdamW turns its rounding errors into steps.
        adam_epsilon=1e-4,
    )
    with join_world() as world:
        encoder = make_encoder(seed=0)
        mined = mine_negatives(
            make_pairs(), None, encoder, RULES, folder=folder / "mined", keep_ranked=True
        )
        world.barrier()
        refreshed = folder / "refreshed"
        try:
            train(
                encoder,
                RefreshedBatches(MinedBatches(mined), mined, refreshed),
                config,
                loss=ImprovedContrastiveConfig(temperature=0.05),
                folder=folder / "training",
                callbacks=[make_refresh(kind, mined, refreshed), Leave(stop_after)],
                progress=lambda done, total: None,
            )
        except LeftHere:
            return
        if world.rank == 0:
            weights = {n: p.detach().clone().contiguous() for n, p in encoder.named_parameters()}
            save_file(weights, str(folder / "weights.safetensors"))


if __name__ == "__main__":
    main()
