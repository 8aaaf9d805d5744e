"""What every training stage does around its training: open, decide how long, keep, tell."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opengte.contracts import TrainingCallback
from opengte.data.mixture import Mixture
from opengte.data.sources import Source
from opengte.errors import ConfigError
from opengte.pipeline.backbone import change_rope
from opengte.pipeline.pair_sources import count_rows
from opengte.pipeline.runner import StageContext
from opengte.pipeline.snapshots import KeepSnapshots
from opengte.pipeline.stage_configs import ContrastiveStage, DistillStage
from opengte.pipeline.stage_configs.learning import Learning
from opengte.training.config import TrainingConfig

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder
    from opengte.training.loop import TrainingResult

LOSS_POINTS = 120


def open_encoder(config: Learning, context: StageContext) -> Encoder:
    """The model that the stage trains on from, with the stage's own lengths and positions."""
    from opengte.models.weights import load_encoder

    encoder = load_encoder(context.model_folder(config.model))
    if config.rope is not None:
        encoder = change_rope(encoder, config.rope)
    encoder.max_tokens = longest_input(config, context)
    return encoder


def longest_input(config: Learning, context: StageContext) -> int:
    """In tokens.

    Raises:
        ConfigError: the stage reads longer texts than the recipe's backbone.
    """
    longest = context.backbone.max_tokens
    if config.max_tokens is not None and config.max_tokens > longest:
        raise ConfigError(
            f"stages.{context.name}.max_tokens is {config.max_tokens}, but backbone.max_tokens "
            f"is {longest}; raise that"
        )
    return config.max_tokens or longest


@dataclass(frozen=True)
class TrainingPlan:
    """What is settled before a stage trains on pairs.

    Attributes:
        settings: with the number of steps and the seed.
        callbacks: those that the stage's config asks for.
        facts: for ``stage.json``: each source's share and rows.
    """

    settings: TrainingConfig
    callbacks: tuple[TrainingCallback, ...]
    facts: Mapping[str, Any]


def plan_training(
    config: ContrastiveStage | DistillStage,
    context: StageContext,
    *,
    sources: Sequence[Source],
    mixture: Mixture,
    encoder: Encoder,
) -> TrainingPlan:
    """Settle how long a stage trains on its pairs, and say so in one line.

    Args:
        config: of the stage.
        context: of the stage.
        sources: the stage's pairs.
        mixture: of these, as it is trained on.
        encoder: as it is trained; it counts tokens where the budget is one of tokens.
    """
    from opengte.training.token_count import steps_for_tokens

    rows = count_rows(config, sources)
    batch_size = config.mixture.batch_size
    settings = resolve_steps(
        config,
        context,
        num_rows=sum(counts["rows"] for counts in rows.values()),
        batch_size=batch_size,
        steps_for_tokens=lambda budget: steps_for_tokens(
            mixture, encoder, config.training, max_tokens=budget
        ),
    )
    shares = tell_shares(context, settings.num_steps, batch_size, mixture.shares)
    callbacks: tuple[TrainingCallback, ...] = ()
    if config.snapshots:
        callbacks = (KeepSnapshots(config.snapshots, context.run_folder, context.name),)
    return TrainingPlan(settings, callbacks, {"shares": shares, "rows": rows})


def resolve_steps(
    config: Learning,
    context: StageContext,
    *,
    num_rows: int,
    batch_size: int,
    steps_for_tokens: Callable[[int], int],
) -> TrainingConfig:
    """The stage's training settings with its number of steps and its seed.

    Args:
        config: of the stage.
        context: for the seed.
        num_rows: of one pass over the data.
        batch_size: rows of a step.
        steps_for_tokens: a budget of tokens -> steps.
    """
    settings = replace(config.training, seed=context.seed)
    if settings.num_steps is not None:
        return settings
    if config.epochs is not None:
        steps = max(1, math.ceil(config.epochs * num_rows / batch_size))
    else:
        budget = settings.max_training_tokens or config.max_training_tokens
        steps = steps_for_tokens(budget)
    return replace(settings, num_steps=steps, max_training_tokens=None)


def training_facts(result: TrainingResult, folder: Path) -> dict[str, Any]:
    """What a finished training says in ``stage.json``; the runner removes its checkpoints then."""
    facts = {
        "num_steps": result.num_steps,
        "num_pairs": result.num_pairs,
        "num_tokens": result.num_tokens,
        "num_truncated": result.num_truncated,
        "num_skipped": result.num_skipped,
        "training_seconds": round(result.seconds, 2),
        "tokens_per_second": round(result.num_tokens / max(result.seconds, 1e-9), 1),
        "first_losses": dict(result.first_losses),
        "last_losses": dict(result.last_losses),
        "losses": loss_curves(folder / "metrics.jsonl"),
    }
    return facts


def loss_curves(metrics: Path) -> dict[str, list[list[float]]]:
    """Source -> [step, loss], thinned to what a chart can show."""
    curves: dict[str, list[list[float]]] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "loss" in row:
            point = [row["step"], round(row["loss"], 4)]
            curves.setdefault(row.get("source") or "mixed", []).append(point)
    for name, points in curves.items():
        every = max(1, len(points) // LOSS_POINTS)
        curves[name] = points[::every]
    return curves


def tell_shares(
    context: StageContext, steps: int | None, size: int, shares: Mapping[str, float]
) -> dict[str, float]:
    """One line: how many steps of how many rows, from where; the shares, for ``stage.json``."""
    context.console.line(
        f"  {steps} steps of {size} rows; sources: "
        + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    )
    return {name: round(share, 4) for name, share in shares.items()}
