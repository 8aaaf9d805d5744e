"""The contrastive stage: pairs -> a better encoder, resumable at every checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opengte.data.mixture import Mixture, Source
from opengte.data.readers import read_pairs
from opengte.errors import ConfigError
from opengte.pipeline.memory import TrimMemory
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import ContrastiveStage
from opengte.records import Pair

LOSS_POINTS = 120


def run(config: ContrastiveStage, context: StageContext) -> Mapping[str, Any]:
    """Train from the referenced model on the referenced pairs."""
    from opengte.models.weights import load_encoder, save_encoder
    from opengte.training.loop import train
    from opengte.training.token_count import steps_for_tokens

    sources = make_sources(_pairs(config, context))
    mixture = Mixture(sources, replace(config.mixture, seed=context.seed))
    settings = replace(config.training, seed=context.seed)
    encoder = load_encoder(
        context.model_folder(config.model), max_tokens=context.backbone.max_tokens
    )
    if settings.num_steps is None:
        budget = settings.max_training_tokens or config.max_training_tokens
        num_steps = steps_for_tokens(mixture, encoder, settings, max_tokens=budget)
        settings = replace(settings, num_steps=num_steps, max_training_tokens=None)
    shares = {name: round(share, 4) for name, share in mixture.shares.items()}
    context.console.line(
        f"  {settings.num_steps} steps of {config.mixture.batch_size} pairs; sources: "
        + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    )
    result = train(
        encoder,
        mixture,
        settings,
        loss=config.loss,
        folder=context.work / "training",
        callbacks=[TrimMemory()],
        progress=context.console.progress("training", unit="steps"),
    )
    save_encoder(encoder, context.output)
    losses = _loss_curves(context.work / "training" / "metrics.jsonl")
    shutil.rmtree(context.work / "training" / "checkpoints", ignore_errors=True)
    return {
        "num_steps": result.num_steps,
        "num_pairs": result.num_pairs,
        "num_tokens": result.num_tokens,
        "num_truncated": result.num_truncated,
        "num_skipped": result.num_skipped,
        "training_seconds": round(result.seconds, 2),
        "tokens_per_second": round(result.num_tokens / max(result.seconds, 1e-9), 1),
        "first_losses": dict(result.first_losses),
        "last_losses": dict(result.last_losses),
        "shares": shares,
        "losses": losses,
    }


def make_sources(pairs: Sequence[Pair]) -> list[Source]:
    """One source a kind of pairs."""
    by_kind: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_kind.setdefault(pair.kind or "pairs", []).append(pair)
    return [Source.from_pairs(kind, rows) for kind, rows in sorted(by_kind.items())]


def _pairs(config: ContrastiveStage, context: StageContext) -> list[Pair]:
    path = context.results[config.pairs].output / "train.jsonl"
    pairs = [p for p in read_pairs(path) if not config.kinds or p.kind in config.kinds]
    if not pairs:
        raise ConfigError(
            f"stages.{context.name}.kinds: no pair of {config.pairs!r} is of kind "
            f"{', '.join(config.kinds)}"
        )
    return pairs


def _loss_curves(metrics: Path) -> dict[str, list[list[float]]]:
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
