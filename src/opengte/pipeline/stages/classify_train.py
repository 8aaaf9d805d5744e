"""The classify-train stage: labelled rows -> an encoder with a classifier beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from opengte.errors import ConfigError
from opengte.evaluation.training_manifest import TrainingManifest, dataset_name
from opengte.metrics.bootstrap import clustered_interval, paired_difference
from opengte.pipeline.files import file_marks, find_data
from opengte.pipeline.labelled import LabelledBatches, LabelledRows, number_labels, read_labelled
from opengte.pipeline.learning import (
    longest_input,
    open_encoder,
    resolve_steps,
    tell_shares,
    training_facts,
)
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import ClassifyTrainStage
from opengte.pipeline.trained_on import write_manifest
from opengte.records import Pair

if TYPE_CHECKING:
    from opengte.models.classifier import EmbeddingClassifier
    from opengte.models.encoder import Encoder

CLASSIFIER = "classifier"
"""Folder of the classifier, inside the encoder's."""
ASSUMED_TOKENS = 24


def run(config: ClassifyTrainStage, context: StageContext) -> Mapping[str, Any]:
    """Train both, or the classifier alone; measure against always naming the largest class."""
    from opengte.models.classifier import EmbeddingClassifier
    from opengte.models.weights import save_encoder
    from opengte.training.classification_objective import (
        ClassificationObjective,
        ClassifyingEncoder,
    )
    from opengte.training.leaf_step import LeafLearner
    from opengte.training.loop import train_with
    from opengte.training.random_state import seeded

    if config.data is None:
        raise ConfigError(
            f"stages.{context.name}.data is not set: the recipe can be planned but not run"
        )
    train, test = read_labelled(
        find_data(config.data), inputs=config.inputs, held_out=config.held_out, seed=context.seed
    )
    labels = config.labels or tuple(sorted({*train.labels, *test.labels}))
    batches = LabelledBatches(train, labels, batch_size=config.batch_size, seed=context.seed)
    encoder = open_encoder(config, context)
    with seeded(context.seed, encoder.device):
        classifier = EmbeddingClassifier(encoder.dimensions, labels, inputs=config.inputs)
    model = ClassifyingEncoder(encoder, classifier)
    objective = ClassificationObjective(encoder, inputs=config.inputs)
    settings = resolve_steps(
        config,
        context,
        num_rows=len(train),
        batch_size=config.batch_size,
        steps_for_tokens=lambda budget: max(
            1, round(budget / (ASSUMED_TOKENS * config.batch_size))
        ),
    )
    if not config.train_backbone:
        settings = replace(settings, frozen=("backbone",))
    tell_shares(context, settings.num_steps, config.batch_size, {"labelled": 1.0})
    result = train_with(
        LeafLearner(objective, max_tokens=longest_input(config, context)),
        model,  # type: ignore[arg-type]  # it has what the loop asks of an encoder
        batches,
        settings,
        folder=context.work / "training",
        progress=context.console.progress("training", unit="steps"),
    )
    measured = _measure(encoder, classifier, train, test, labels)
    save_encoder(encoder, context.output)
    classifier.save(context.output / CLASSIFIER)
    write_manifest(_learned(train, config), config.model, context)
    low, high = measured["ci95"]
    context.console.line(
        f"  held-out accuracy {measured['accuracy']:.4f}, against {measured['largest_class']:.4f} "
        f"for the largest class: difference {measured['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
    )
    return {
        **training_facts(result, context.work / "training"),
        "labels": list(labels),
        "num_train_rows": len(train),
        "held_out": measured,
    }


def external_inputs(config: ClassifyTrainStage) -> Any:
    """What changes when the data do."""
    return file_marks([config.data])


def _learned(rows: LabelledRows, config: ClassifyTrainStage) -> TrainingManifest:
    names = [dataset_name(config.data)] if config.data is not None else []
    if config.inputs == "pair":
        pairs = map(Pair, rows.first, rows.second)
        return TrainingManifest.from_pairs(pairs, datasets=names)
    return TrainingManifest.from_texts(rows.first, datasets=names)


def _measure(
    encoder: Encoder,
    classifier: EmbeddingClassifier,
    train: LabelledRows,
    test: LabelledRows,
    labels: Sequence[str],
) -> dict[str, Any]:
    truth = number_labels(test, labels)
    first = encoder.encode(test.first)
    second = encoder.encode(test.second) if classifier.inputs == "pair" else None
    predicted = classifier.probabilities(first, second).argmax(axis=1)
    largest = int(np.bincount(number_labels(train, labels)).argmax())
    hits, guesses = predicted == truth, truth == largest
    difference = paired_difference(hits.astype(float), guesses.astype(float))
    interval = clustered_interval(hits.astype(float))
    return {
        "num_rows": len(test),
        "accuracy": round(float(hits.mean()), 4),
        "accuracy_ci95": [round(interval.low, 4), round(interval.high, 4)],
        "largest_class": round(float(guesses.mean()), 4),
        "difference": round(difference.mean, 4),
        "ci95": [round(difference.low, 4), round(difference.high, 4)],
    }
