"""What both stages of language modelling do: texts in, a backbone out, and its loss on others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opengte.atomic import write_json
from opengte.metrics.bootstrap import paired_difference
from opengte.pipeline.learning import open_encoder, resolve_steps, tell_shares, training_facts
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs.learning import TextLearning
from opengte.pipeline.texts import open_texts
from opengte.pipeline.trained_on import learned_texts, write_manifest
from opengte.records import Batch

if TYPE_CHECKING:
    from torch import nn

    from opengte.models.encoder import Encoder
    from opengte.training.summed_step import SummedObjective

HELD_OUT_STEP = 2**31 - 1
"""Names the masks of held-out texts: the same before and after, and those of no training step."""
SAMPLED_STEPS = 8


def train_on_texts(
    config: TextLearning,
    context: StageContext,
    *,
    make_objective: Callable[[Encoder], SummedObjective],
    make_model: Callable[[Encoder], nn.Module],
    save: Callable[[Encoder, nn.Module], None],
) -> dict[str, Any]:
    """Train, and measure the loss of held-out texts before and after.

    Args:
        config: of the stage.
        context: of the stage.
        make_objective: what is guessed.
        make_model: the encoder's backbone with what stands on it while it learns.
        save: writes the output folder.
    """
    from opengte.training.loop import train_with
    from opengte.training.summed_step import SummedLearner

    texts = open_texts(config, context)
    encoder = open_encoder(config, context)
    objective = make_objective(encoder)
    model = make_model(encoder)
    settings = resolve_steps(
        config,
        context,
        num_rows=sum(texts.num_texts.values()),
        batch_size=config.batch_size,
        steps_for_tokens=lambda budget: max(
            1, round(budget / _tokens_per_step(objective, texts.mixture.batch))
        ),
    )
    shares = tell_shares(context, settings.num_steps, config.batch_size, texts.mixture.shares)
    before = _kept_losses(context.work / "before.json", objective, model, texts.held_out)
    result = train_with(
        SummedLearner(objective),
        model,  # type: ignore[arg-type]  # it has what the loop asks of an encoder
        texts.mixture,
        settings,
        folder=context.work / "training",
        progress=context.console.progress("training", unit="steps"),
    )
    after = held_out_losses(objective, model, texts.held_out)
    save(encoder, model)
    paths = [source.path for source in config.texts.values()]
    write_manifest(learned_texts(texts.mixture.sources, paths), config.model, context)
    held_out = compare_losses(before, after)
    context.console.line(
        f"  held-out loss {held_out['before']:.4f} -> {held_out['after']:.4f} nats, difference "
        f"{held_out['difference']:+.4f} [{held_out['ci95'][0]:+.4f}, {held_out['ci95'][1]:+.4f}]"
    )
    facts = training_facts(result, context.work / "training")
    facts["first_batch"] = _first_batch(objective, texts.mixture.batch)
    shutil.rmtree(context.work / "texts", ignore_errors=True)
    return {**facts, "shares": shares, "num_texts": texts.num_texts, "held_out": held_out}


def held_out_losses(
    objective: SummedObjective, model: nn.Module, texts: Sequence[str]
) -> list[float]:
    """Nats of each text, always with the same tokens hidden."""
    import torch

    was_training = model.training
    model.eval()
    losses = []
    with torch.no_grad():
        for number, text in enumerate(texts):
            (part,) = objective.cut(_batch([text]), number)
            losses.append(float(objective.loss(model, part, objective.counts(part))))
    model.train(was_training)
    return losses


def compare_losses(before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    """Means and their paired difference; below 0 is better."""
    difference = paired_difference(after, before)
    return {
        "num_texts": len(before),
        "before": round(float(np.mean(before)), 4),
        "after": round(float(np.mean(after)), 4),
        "difference": round(difference.mean, 4),
        "ci95": [round(difference.low, 4), round(difference.high, 4)],
    }


def _kept_losses(
    file: Path, objective: SummedObjective, model: nn.Module, texts: Sequence[str]
) -> list[float]:
    """Measured once: a run that goes on has the same beginning."""
    if file.is_file():
        kept: list[float] = json.loads(file.read_text(encoding="utf-8"))
        return kept
    losses = held_out_losses(objective, model, texts)
    write_json(file, losses)
    return losses


def _tokens_per_step(objective: SummedObjective, draw: Callable[[int], Batch]) -> float:
    total = 0
    for step in range(SAMPLED_STEPS):
        total += sum(part.num_tokens for part in objective.cut(draw(step), 0))
    return total / SAMPLED_STEPS


def _first_batch(objective: SummedObjective, draw: Callable[[int], Batch]) -> dict[str, Any]:
    """Tokens of the first batch, and how many of them must be guessed, by each part."""
    parts = objective.cut(draw(0), 0)
    counts = np.sum([objective.counts(part) for part in parts], axis=0).astype(int)
    return {"num_tokens": sum(part.num_tokens for part in parts), "num_guessed": counts.tolist()}


def _batch(texts: Sequence[str]) -> Batch:
    return Batch(
        step=HELD_OUT_STEP,
        source="held out",
        queries=texts,
        positives=[""] * len(texts),
        negatives=[()] * len(texts),
        row_ids=np.arange(len(texts)),
        row_sources=["held out"] * len(texts),
    )
