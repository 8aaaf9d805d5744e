"""The distill stage: pairs and a teacher -> an encoder that embeds or scores as it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opengte.data.mixture import Mixture
from opengte.errors import ConfigError
from opengte.losses.config import MatryoshkaConfig, WeightedSumConfig
from opengte.losses.distillation import (
    EmbeddingMSEConfig,
    KLDistillationConfig,
    MarginMSEConfig,
)
from opengte.pipeline.learning import open_encoder, plan_training, training_facts
from opengte.pipeline.pair_sources import load_pairs, make_sources, source_settings
from opengte.pipeline.rankers import load_reranker, teacher_folder
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import DistillStage
from opengte.pipeline.teacher_labels import (
    Asked,
    TaughtEmbeddings,
    TaughtScores,
    label_embeddings,
    label_judgements,
    label_similarities,
    make_labels,
)
from opengte.pipeline.trained_on import learned_pairs, write_manifest
from opengte.records import Pair
from opengte.training.teacher_columns import Teach

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


@dataclass(frozen=True)
class Lesson:
    """What the teacher said.

    Attributes:
        teach: for batches.
        teacher: its fingerprint.
        num_labels: that it gave.
        dimensions: of its embeddings; None where it gave scores.
    """

    teach: Teach
    teacher: str
    num_labels: int
    dimensions: int | None


def run(config: DistillStage, context: StageContext) -> Mapping[str, Any]:
    """Ask the teacher about every pair once, then train towards its answers."""
    from opengte.models.weights import save_encoder
    from opengte.training.learners import EmbeddingLearner
    from opengte.training.loop import train_with

    pairs = load_pairs(config, context)
    sources = make_sources(pairs, source_settings(config, context))
    lesson = _ask(config, context, pairs)
    # The teacher has a label for each side as it stands.
    mixture = Mixture(sources, replace(config.mixture, seed=context.seed, flip_symmetric=False))
    encoder = open_encoder(config, context)
    projected = _fit_size(encoder, lesson, config, context)
    plan = plan_training(config, context, sources=sources, mixture=mixture, encoder=encoder)
    result = train_with(
        EmbeddingLearner(config.loss, teach=lesson.teach, teacher=lesson.teacher),
        encoder,
        mixture,
        plan.settings,
        folder=context.work / "training",
        callbacks=plan.callbacks,
        progress=context.console.progress("training", unit="steps"),
    )
    save_encoder(encoder, context.output)
    learned = learned_pairs(sources, config, context)
    write_manifest(learned, config.model, context, snapshots=config.snapshots)
    return {
        **training_facts(result, context.work / "training"),
        **plan.facts,
        "num_labels": lesson.num_labels,
        "teacher_dimensions": lesson.dimensions,
        "projected": projected,
    }


def _ask(config: DistillStage, context: StageContext, pairs: Sequence[Pair]) -> Lesson:
    from opengte.model_folder import ModelFolder

    if config.teacher.kind == "bm25":
        raise ConfigError(f"stages.{context.name}.teacher: BM25 gives nothing to learn from")
    folder = teacher_folder(config.teacher, context)
    revision = ModelFolder.read(folder).revision
    wants_embeddings = _asks_for(config.loss, EmbeddingMSEConfig)
    wants_scores = _asks_for(config.loss, (KLDistillationConfig, MarginMSEConfig))
    label: Callable[[Sequence[Asked]], NDArray[np.float32]]
    dimensions = None
    if config.teacher.kind != "encoder":
        if wants_embeddings:
            raise ConfigError(
                f"stages.{context.name}.loss: a {config.teacher.kind} gives scores, no "
                "embeddings; use kl_distillation or margin_mse"
            )
        label = label_judgements(
            load_reranker(folder, config.teacher.kind, max_tokens=config.teacher.max_tokens)
        )
    else:
        longest = config.teacher.max_tokens or context.backbone.max_tokens
        encoder = context.load_encoder(folder, longest)
        dimensions = encoder.space.dimensions if wants_embeddings else None
        label = label_embeddings(encoder) if wants_embeddings else label_similarities(encoder)
    if wants_embeddings:
        asked = list(_texts(pairs, with_negatives=wants_scores))
    else:
        asked = list(_scored(pairs))
    table = make_labels(
        iter(asked),
        label,
        context.work / f"labels-{revision[:12]}",
        total=len(asked),
        progress=context.console.progress("asking the teacher", unit="labels"),
    )
    teach: Teach
    if wants_embeddings:
        teach = TaughtEmbeddings(table, with_scores=wants_scores)
    else:
        teach = TaughtScores(table)
    return Lesson(teach, revision, len(table), dimensions)


def _texts(pairs: Sequence[Pair], *, with_negatives: bool) -> Iterator[Asked]:
    sides = {("query", pair.query): None for pair in pairs}
    sides.update({("document", pair.positive): None for pair in pairs})
    if with_negatives:
        sides.update({("document", text): None for pair in pairs for text in pair.negatives})
    yield from sides


def _scored(pairs: Sequence[Pair]) -> Iterator[Asked]:
    yield from {
        (pair.query, text): None for pair in pairs for text in (pair.positive, *pair.negatives)
    }


def _asks_for(loss: object, kinds: type | tuple[type, ...]) -> bool:
    """Whether the loss is of one of the kinds, or made of one."""
    if isinstance(loss, WeightedSumConfig):
        return any(_asks_for(part, kinds) for part in loss.losses)
    if isinstance(loss, MatryoshkaConfig):
        return _asks_for(loss.loss, kinds)
    return isinstance(loss, kinds)


def _fit_size(
    encoder: Encoder, lesson: Lesson, config: DistillStage, context: StageContext
) -> bool:
    """Give the student the teacher's size, where embeddings are compared."""
    if lesson.dimensions is None or lesson.dimensions == encoder.dimensions:
        return False
    if not config.project:
        raise ConfigError(
            f"stages.{context.name}.project is false, but the teacher's embeddings have "
            f"{lesson.dimensions} values and the student's {encoder.dimensions}"
        )
    from opengte.models.heads import Dense
    from opengte.training.random_state import seeded

    with seeded(context.seed, encoder.device):
        encoder.dense.append(Dense(encoder.dimensions, lesson.dimensions, bias=False))
    return True
