"""A recipe -> steps, tokens, memory and time of every stage, before anything is run.

Memory is worked out from passes over small inputs (``memory_forecast``), speed by a few passes on
this machine, in the stage's own precision. Lengths are read off the first rows of the stage's own
sources, or off the corpus where that stage has run already; before that texts are assumed to fill
``ASSUMED_FILL`` of the longest input on both sides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opengte.data.readers import read_pairs
from opengte.data.store import PairStore
from opengte.pipeline.calibration import INFERENCE_SPEEDUP, measured_tokens_per_second
from opengte.pipeline.files import find_data
from opengte.pipeline.memory_forecast import peak_training_mib, resident_mib
from opengte.pipeline.pair_sources import FORMATS, TRAIN, is_store
from opengte.pipeline.recipe import Recipe
from opengte.pipeline.stage_configs import (
    ContrastiveStage,
    CorpusStage,
    DistillStage,
    EvaluateStage,
    StageConfig,
)
from opengte.records import Pair
from opengte.training.config import TrainingConfig

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

PairLearning = ContrastiveStage | DistillStage
"""Stages that train on pairs, a batch at once."""
WHAT_COSTS_TIME = (
    "precision",
    "dropout",
    "attention_dropout",
    "gradient_checkpointing",
    "frozen",
    "frozen_layers",
    "lora",
)
ASSUMED_FILL = 0.37
SAMPLED_PAIRS = 400
READ_PAIRS = 4000
"""Rows of each source that are looked at."""
EMBEDDING_MIB = 300.0
"""Activations and the heap, while texts are embedded in groups under a budget of tokens."""


@dataclass(frozen=True)
class StageForecast:
    """What one stage is expected to take.

    Attributes:
        name, kind: which stage.
        num_steps, num_tokens: of training; tokens embedded for an evaluation.
        memory_mib: highest resident memory of a process that runs this stage alone; None where
            no model is held.
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
    return Forecaster(recipe, model, run_folder).stages()


class Forecaster:
    """Forecasts the stages of one recipe, from the model that its training starts from.

    Args:
        recipe: what would be run.
        model: folder of its backbone.
        run_folder: where it would run.
    """

    def __init__(self, recipe: Recipe, model: Path, run_folder: Path) -> None:
        from opengte.models.weights import load_encoder

        self.recipe, self.model, self.run_folder = recipe, model, run_folder
        self.max_tokens = recipe.backbone.max_tokens
        self.encoder = load_encoder(model, max_tokens=self.max_tokens)
        # Before anything is tried out: what a process holds that has loaded code and model.
        self.resident = resident_mib()
        self.speeds: dict[TrainingConfig, float] = {}

    def stages(self) -> list[StageForecast]:
        """One forecast a stage, in their order."""
        return [self._stage(name, stage) for name, stage in self.recipe.stages.items()]

    def _stage(self, name: str, stage: StageConfig) -> StageForecast:
        if isinstance(stage, PairLearning):
            return self._training(name, stage)
        if isinstance(stage, EvaluateStage):
            return self._evaluation(name, stage)
        return StageForecast(name, stage.kind, None, None, None, None)

    def _training(self, name: str, stage: PairLearning) -> StageForecast:
        lengths, num_negatives, note = self._sample(stage)
        texts_per_step = round(stage.mixture.batch_size * (2 + num_negatives))
        per_step = float(lengths.mean()) * texts_per_step
        steps = self._num_steps(stage, per_step)
        encoder = self._prepared(stage)
        memory = peak_training_mib(
            encoder,
            stage.training,
            lengths,
            resident=self.resident,
            texts_per_step=texts_per_step,
            num_steps=steps,
        )
        seconds = steps * per_step / self._speed(encoder, stage.training)
        tokens = round(steps * per_step)
        return StageForecast(name, stage.kind, steps, tokens, memory, seconds, note)

    def _evaluation(self, name: str, stage: EvaluateStage) -> StageForecast:
        corpus = self.recipe.stages[stage.data] if stage.data else None
        documents = corpus.pool_documents if isinstance(corpus, CorpusStage) else 0
        tokens = round(documents * min(self.max_tokens, 1.3 * ASSUMED_FILL * self.max_tokens))
        memory = self.resident + EMBEDDING_MIB
        speed = self._speed(self.encoder, TrainingConfig()) * INFERENCE_SPEEDUP
        return StageForecast(name, stage.kind, None, tokens, memory, tokens / speed)

    def _num_steps(self, stage: PairLearning, per_step: float) -> int:
        if stage.training.num_steps is not None:
            return stage.training.num_steps
        if stage.epochs is not None:
            rows = sum(1 for _ in self._pairs(stage))
            return max(1, math.ceil(stage.epochs * rows / stage.mixture.batch_size))
        tokens = stage.training.max_training_tokens or stage.max_training_tokens
        return max(1, round(tokens / per_step))

    def _prepared(self, stage: PairLearning) -> Encoder:
        """The model as the stage trains it: its precision, dropout, adapters, frozen parts."""
        import torch

        from opengte.models.weights import load_encoder
        from opengte.training.distributed import World
        from opengte.training.loop import prepare_encoder

        encoder = load_encoder(self.model, max_tokens=stage.max_tokens or self.max_tokens)
        prepare_encoder(encoder, stage.training, World(0, 1, torch.device("cpu")))
        return encoder

    def _speed(self, encoder: Encoder, training: TrainingConfig) -> float:
        """Tokens a second; measured once for all stages that compute alike."""
        alike = replace(
            TrainingConfig(),
            **{name: getattr(training, name) for name in WHAT_COSTS_TIME},
        )
        if alike not in self.speeds:
            self.speeds[alike] = measured_tokens_per_second(encoder)
        return self.speeds[alike]

    def _sample(self, stage: PairLearning) -> tuple[NDArray[np.int64], float, str]:
        """Lengths of a sample of the stage's texts, hard negatives a row, what they rest on."""
        most = stage.mixture.max_negatives
        rows = list(itertools.islice(self._pairs(stage), READ_PAIRS))
        if not rows:
            assumed = max(2, round(self.max_tokens * ASSUMED_FILL))
            note = f"texts assumed to hold {assumed} tokens"
            return np.full(SAMPLED_PAIRS, assumed), float(most or 0), note
        rows = rows[:: max(1, len(rows) // SAMPLED_PAIRS)]
        chosen = [(row.query, row.positive, *row.negatives[:most]) for row in rows]
        texts = [text for row in chosen for text in row]
        lengths = np.asarray([len(text) for text in self.encoder.tokenize(texts)])
        return lengths, len(texts) / len(rows) - 2, "lengths read off the data"

    def _pairs(self, stage: PairLearning) -> Iterator[Pair]:
        """The stage's pairs as far as they are there, sources in turns."""
        sources = [self._source_pairs(name, stage) for name in stage.sources]
        if stage.pairs is not None:
            sources.append(self._stage_pairs(stage.pairs))
        for row in itertools.zip_longest(*sources):
            yield from (pair for pair in row if pair is not None)

    def _source_pairs(self, name: str, stage: PairLearning) -> Iterator[Pair]:
        source = stage.sources[name]
        if source.path is None:
            return
        path = find_data(source.path)
        if is_store(path):
            yield from PairStore(path).pairs(source.name or name)
        else:
            yield from read_pairs(path, format=FORMATS[source.convert])

    def _stage_pairs(self, name: str) -> Iterator[Pair]:
        """What a stage has left; where it has not run, what the stage before it has left."""
        stage = self.recipe.stages[name]
        output = getattr(stage, "output", None) or f"stages/{name}/output"
        path = self.run_folder / output / TRAIN
        earlier = getattr(stage, "pairs", None)
        if path.is_file():
            yield from read_pairs(path)
        elif earlier is not None:
            yield from self._stage_pairs(earlier)
