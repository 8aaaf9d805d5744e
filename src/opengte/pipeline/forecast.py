"""A recipe -> steps, tokens, memory and time of every stage, before anything is run.

Memory is measured on small inputs (``training.activation_memory``), speed by a few passes on this
machine. Tokens of a pair are read off the pairs where the corpus stage has run already; before
that they are assumed to fill ``ASSUMED_FILL`` of the longest input on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opengte.pipeline.calibration import INFERENCE_SPEEDUP, training_tokens_per_second
from opengte.pipeline.recipe import Recipe
from opengte.pipeline.stage_configs import ContrastiveStage, CorpusStage, EvaluateStage

ASSUMED_FILL = 0.37
SAMPLED_PAIRS = 400
BYTES_PER_PARAMETER = 16
"""float32: the weight, its gradient and AdamW's two moments."""
PROCESS_MIB = 550.0
"""Python, torch and the tokenizer, before any weight."""


@dataclass(frozen=True)
class StageForecast:
    """What one stage is expected to take.

    Attributes:
        name, kind: which stage.
        num_steps, num_tokens: of training; tokens embedded for an evaluation.
        memory_mib: highest resident memory; None where no model is held.
        seconds: on this machine.
        note: what the figures rest on.
    """

    name: str
    kind: str
    num_steps: int | None
    num_tokens: int | None
    memory_mib: float | None
    seconds: float | None
    note: str = ""


def forecast(recipe: Recipe, model: Path, run_folder: Path) -> list[StageForecast]:
    """Forecast every stage; reads ``run_folder`` where stages have run already."""
    from opengte.models.weights import load_encoder

    max_tokens = recipe.backbone.max_tokens
    encoder = load_encoder(model, max_tokens=max_tokens)
    num_parameters = sum(p.numel() for p in encoder.parameters())
    speed = training_tokens_per_second(model, max_tokens=max_tokens)
    lengths, note = _text_lengths(recipe, encoder, run_folder)
    forecasts = []
    for name, stage in recipe.stages.items():
        if isinstance(stage, ContrastiveStage):
            tokens = stage.training.max_training_tokens or stage.max_training_tokens
            per_step = float(lengths.mean()) * 2 * stage.mixture.batch_size
            steps = stage.training.num_steps or max(1, round(tokens / per_step))
            forecasts.append(
                StageForecast(
                    name,
                    stage.kind,
                    steps,
                    round(steps * per_step),
                    _training_mib(encoder, stage, lengths, num_parameters, max_tokens),
                    steps * per_step / speed,
                    note,
                )
            )
        elif isinstance(stage, EvaluateStage):
            corpus = recipe.stages[stage.data] if stage.data else None
            documents = corpus.pool_documents if isinstance(corpus, CorpusStage) else 0
            tokens = round(documents * min(max_tokens, 1.3 * float(lengths.mean())))
            memory = PROCESS_MIB + num_parameters * 4 / 2**20
            seconds = tokens / (speed * INFERENCE_SPEEDUP)
            forecasts.append(StageForecast(name, stage.kind, None, tokens, memory, seconds))
        else:
            forecasts.append(StageForecast(name, stage.kind, None, None, None, None))
    return forecasts


def _training_mib(
    encoder: object, stage: ContrastiveStage, lengths: np.ndarray, num_parameters: int, longest: int
) -> float:
    from opengte.training.activation_memory import GIB, measure_activations

    batch = np.resize(lengths, 2 * stage.mixture.batch_size)
    kept = measure_activations(encoder, max_tokens=longest).predict(batch)  # type: ignore[arg-type]
    if stage.training.activation_memory_gib is not None:
        kept = min(kept, stage.training.activation_memory_gib * GIB)
    return PROCESS_MIB + (num_parameters * BYTES_PER_PARAMETER + kept) / 2**20


def _text_lengths(recipe: Recipe, encoder: object, run_folder: Path) -> tuple[np.ndarray, str]:
    """Tokens of texts of both sides, and what they rest on."""
    for path in _training_files(recipe, run_folder):
        from opengte.data.readers import read_pairs

        pairs = list(read_pairs(path))
        every = max(1, len(pairs) // SAMPLED_PAIRS)
        texts = [text for pair in pairs[::every] for text in (pair.query, pair.positive)]
        found = [len(t) for t in encoder.tokenize(texts)]  # type: ignore[attr-defined]
        return np.asarray(found), "lengths read off the corpus"
    assumed = max(2, round(recipe.backbone.max_tokens * ASSUMED_FILL))
    return np.full(SAMPLED_PAIRS, assumed), f"texts assumed to hold {assumed} tokens"


def _training_files(recipe: Recipe, run_folder: Path) -> Iterator[Path]:
    for name, stage in recipe.stages.items():
        if isinstance(stage, CorpusStage):
            path = run_folder / (stage.output or f"stages/{name}/output") / "train.jsonl"
            if path.is_file():
                yield path
