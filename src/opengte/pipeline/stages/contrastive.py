"""The contrastive stage: pairs -> a better encoder, resumable at every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opengte.data.mixture import Mixture
from opengte.evaluation.training_manifest import TrainingManifest
from opengte.pipeline.learning import open_encoder, plan_training, training_facts
from opengte.pipeline.pair_sources import open_sources
from opengte.pipeline.refreshing import open_refreshing, refresh_facts
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import ContrastiveStage
from opengte.pipeline.trained_on import learned_pairs, write_manifest


def run(config: ContrastiveStage, context: StageContext) -> Mapping[str, Any]:
    """Train from the referenced model on the stage's pairs."""
    from opengte.models.weights import save_encoder
    from opengte.training.learners import EmbeddingLearner
    from opengte.training.loop import train_with

    sources = open_sources(config, context)
    mixture = Mixture(sources, replace(config.mixture, seed=context.seed))
    encoder = open_encoder(config, context)
    plan = plan_training(config, context, sources=sources, mixture=mixture, encoder=encoder)
    callbacks = list(plan.callbacks)
    refreshing = open_refreshing(config, context, mixture)
    if refreshing is not None:
        callbacks.append(refreshing.callback)
    result = train_with(
        EmbeddingLearner(config.loss, sparse=config.sparse),
        encoder,
        mixture if refreshing is None else refreshing.batches,
        plan.settings,
        folder=context.work / "training",
        callbacks=callbacks,
        progress=context.console.progress("training", unit="steps"),
    )
    save_encoder(encoder, context.output)
    learned = learned_pairs(sources, config, context)
    if refreshing is not None:
        candidates = TrainingManifest.from_texts(refreshing.candidates)
        learned = TrainingManifest.union([learned, candidates])
    write_manifest(learned, config.model, context, snapshots=config.snapshots)
    facts = training_facts(result, context.work / "training")
    if refreshing is not None:
        facts["refreshed"] = refresh_facts(context.work / "training" / "metrics.jsonl")
        replaced, new = (facts["refreshed"][name] for name in ("num_replaced", "num_new"))
        context.console.line(f"  negatives: {replaced:,} pairs' replaced, {new:,} mined anew")
    return {**facts, **plan.facts}
