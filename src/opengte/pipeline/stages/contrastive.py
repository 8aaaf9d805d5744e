"""The contrastive stage: pairs -> a better encoder, resumable at every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opengte.contracts import TrainingCallback
from opengte.data.mixture import Mixture
from opengte.evaluation.training_manifest import TrainingManifest
from opengte.pipeline.learning import open_encoder, resolve_steps, tell_shares, training_facts
from opengte.pipeline.memory import TrimMemory
from opengte.pipeline.pair_sources import count_rows, open_sources
from opengte.pipeline.refreshing import open_refreshing, refresh_facts
from opengte.pipeline.runner import StageContext
from opengte.pipeline.snapshots import KeepSnapshots
from opengte.pipeline.stage_configs import ContrastiveStage
from opengte.pipeline.trained_on import learned_pairs, write_manifest


def run(config: ContrastiveStage, context: StageContext) -> Mapping[str, Any]:
    """Train from the referenced model on the stage's pairs."""
    from opengte.models.weights import save_encoder
    from opengte.training.learners import EmbeddingLearner
    from opengte.training.loop import train_with
    from opengte.training.token_count import steps_for_tokens

    sources = open_sources(config, context)
    mixture = Mixture(sources, replace(config.mixture, seed=context.seed))
    encoder = open_encoder(config, context)
    rows = count_rows(config, sources)
    settings = resolve_steps(
        config,
        context,
        num_rows=sum(counts["rows"] for counts in rows.values()),
        batch_size=config.mixture.batch_size,
        steps_for_tokens=lambda budget: steps_for_tokens(
            mixture, encoder, config.training, max_tokens=budget
        ),
    )
    shares = {name: round(share, 4) for name, share in mixture.shares.items()}
    tell_shares(context, settings.num_steps, config.mixture.batch_size, shares)
    callbacks: list[TrainingCallback] = [TrimMemory()]
    if config.snapshots:
        callbacks.append(KeepSnapshots(config.snapshots, context.run_folder, context.name))
    refreshing = open_refreshing(config, context, mixture)
    if refreshing is not None:
        callbacks.append(refreshing.callback)
    result = train_with(
        EmbeddingLearner(config.loss, sparse=config.sparse),
        encoder,
        mixture if refreshing is None else refreshing.batches,
        settings,
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
    return {**facts, "shares": shares, "rows": rows}
