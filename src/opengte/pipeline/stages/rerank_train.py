"""The rerank-train stage: pairs with negatives -> a model that reads both texts together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from opengte.data.mixture import Mixture, MixtureConfig
from opengte.pipeline.learning import (
    longest_input,
    open_encoder,
    resolve_steps,
    tell_shares,
    training_facts,
)
from opengte.pipeline.pair_sources import count_rows, open_sources
from opengte.pipeline.recipe import BASE
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import RerankTrainStage
from opengte.pipeline.trained_on import learned_pairs, write_manifest

if TYPE_CHECKING:
    from opengte.models.cross_encoder import CrossEncoder
    from opengte.models.reranker import YesNoReranker
    from opengte.training.reranking_objective import RerankingObjective

SAMPLED_STEPS = 8


def run(config: RerankTrainStage, context: StageContext) -> Mapping[str, Any]:
    """Train, and write the reranker's folder."""
    from opengte.training.leaf_step import LeafLearner
    from opengte.training.loop import train_with
    from opengte.training.reranking_objective import RerankingObjective

    sources = open_sources(config, context)
    mixture = Mixture(
        sources,
        MixtureConfig(
            batch_size=config.batch_size,
            max_negatives=config.list_size - 1,
            length_table=config.length_table,
            seed=context.seed,
        ),
    )
    model = open_model(config, context)
    objective = RerankingObjective(
        model, form=config.form, list_size=config.list_size, seed=context.seed
    )
    rows = count_rows(config, sources)
    settings = resolve_steps(
        config,
        context,
        num_rows=sum(counts["rows"] for counts in rows.values()),
        batch_size=config.batch_size,
        steps_for_tokens=lambda budget: max(1, round(budget / _tokens(objective, mixture))),
    )
    shares = tell_shares(context, settings.num_steps, config.batch_size, mixture.shares)
    result = train_with(
        LeafLearner(objective, max_tokens=model.max_tokens),
        model,  # type: ignore[arg-type]  # it has what the loop asks of an encoder
        mixture,
        settings,
        folder=context.work / "training",
        progress=context.console.progress("training", unit="steps"),
    )
    _save(model, config, context)
    write_manifest(learned_pairs(sources, config, context), config.model, context)
    return {
        **training_facts(result, context.work / "training"),
        "form": config.form,
        "shares": shares,
        "rows": rows,
        "first_lists": _list_counts(objective, mixture),
    }


def open_model(config: RerankTrainStage, context: StageContext) -> CrossEncoder | YesNoReranker:
    """The backbone that the stage names, with a new head; a decoder's answers are its own words."""
    if config.form == "yes_no":
        return _yes_no(config, context)
    from opengte.models.cross_encoder import CrossEncoder
    from opengte.models.score_head import ScoreHead
    from opengte.training.random_state import seeded

    encoder = open_encoder(config, context)
    with seeded(context.seed, encoder.device):
        head = ScoreHead(encoder.backbone.hidden_size, 1, kind=config.head)
    return CrossEncoder(
        encoder.backbone, head, encoder.tokenizer, max_tokens=longest_input(config, context)
    )


def _yes_no(config: RerankTrainStage, context: StageContext) -> YesNoReranker:
    from opengte.models.reranker import DEFAULT_INSTRUCTION
    from opengte.models.reranker_folder import load_yes_no_reranker

    # A model that the recipe has changed was written as an encoder, without its output words.
    is_base = config.model == BASE and context.backbone.init == "pretrained"
    model = load_yes_no_reranker(
        context.find_model(context.backbone.model)
        if is_base
        else context.model_folder(config.model),
        instruction=config.instruction or DEFAULT_INSTRUCTION,
        max_tokens=longest_input(config, context),
    )
    if config.rope is not None:
        model.backbone = open_encoder(config, context).backbone
    return model


def _save(
    model: CrossEncoder | YesNoReranker, config: RerankTrainStage, context: StageContext
) -> None:
    from opengte.models.cross_encoder import CrossEncoder
    from opengte.models.cross_encoder_folder import save_cross_encoder
    from opengte.models.reranker_folder import save_yes_no_reranker

    if isinstance(model, CrossEncoder):
        save_cross_encoder(model, context.output)
    else:
        save_yes_no_reranker(model, context.output)


def _tokens(objective: RerankingObjective, mixture: Mixture) -> float:
    """Tokens that a step reads, on average of the first ones."""
    texts = [t for step in range(SAMPLED_STEPS) for t in objective.tokenize(mixture.batch(step), 0)]
    return sum(map(len, texts)) / SAMPLED_STEPS


def _list_counts(objective: RerankingObjective, mixture: Mixture) -> dict[str, float]:
    """What the first batch's lists were made of: own negatives, and others' documents."""
    batch = mixture.batch(0)
    lists = objective.lists(batch, 0)
    own = [
        len(set(texts[1:]) & set(negatives))
        for texts, negatives in zip(lists, batch.negatives, strict=True)
    ]
    return {
        "lists": len(lists),
        "candidates": float(np.mean([len(texts) for texts in lists])),
        "own_negatives": float(np.mean(own)),
        "filled_up": float(np.mean([len(t) - 1 - n for t, n in zip(lists, own, strict=True)])),
    }
