"""A contrastive stage that refreshes its negatives -> batches and callback of the mine stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opengte.contracts import BatchSource, TrainingCallback
from opengte.errors import ConfigError
from opengte.mining.dynamic import DynamicNegatives
from opengte.mining.remine import RemineNegatives
from opengte.mining.side_files import RefreshedBatches
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import ContrastiveStage, MineStage
from opengte.pipeline.stages.mine import mine


@dataclass(frozen=True)
class Refreshing:
    """What takes part in the training.

    Attributes:
        batches: with the newest negatives that are valid.
        callback: replaces them.
        candidates: the documents that new ones come from.
    """

    batches: BatchSource
    callback: TrainingCallback
    candidates: Sequence[str]


def open_refreshing(
    config: ContrastiveStage, context: StageContext, batches: BatchSource
) -> Refreshing | None:
    """Go back to what the mine stage left; None where nothing is refreshed.

    Raises:
        ConfigError: ``pairs`` is no mine stage, or it kept too little.
    """
    if config.refresh is None:
        return None
    assert config.pairs is not None
    stage = context.stages[config.pairs]
    if not isinstance(stage, MineStage):
        raise ConfigError(
            f"stages.{context.name}.refresh needs pairs of a mine stage, {config.pairs!r} is a "
            f"{stage.kind} stage"
        )
    if stage.random_negatives or (config.refresh.dynamic and not stage.keep_ranked):
        raise ConfigError(
            f"stages.{context.name}.refresh: stage {config.pairs!r} must mine without "
            "random_negatives, and for dynamic with keep_ranked: true"
        )
    mined = mine(stage, context.of_stage(config.pairs))
    folder = context.work / "refreshed"
    callback: TrainingCallback
    if config.refresh.dynamic is not None:
        callback = DynamicNegatives(mined.result, config.refresh.dynamic, folder=folder)
    else:
        assert config.refresh.remine is not None
        callback = RemineNegatives(
            mined.result,
            mined.corpus,
            mined.rules,
            folder,
            config.refresh.remine,
            known_pairs=mined.known_pairs,
        )
    batches = RefreshedBatches(batches, mined.result, folder)
    return Refreshing(batches, callback, mined.texts)


def refresh_facts(metrics: Path) -> dict[str, Any]:
    """What was checked and replaced in the whole run, from its log."""
    checks, replaced, mined = 0, 0.0, 0.0
    for line in metrics.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "negatives_checked" in row:
            checks, replaced = checks + 1, replaced + row["negatives_replaced"]
        if "negatives_mined" in row:
            checks, mined = checks + 1, mined + row["negatives_mined"] * row["negatives_new"]
    return {"num_checks": checks, "num_replaced": round(replaced), "num_new": round(mined)}
