"""The table of stage kinds, and the one way in which recipes are run."""

from __future__ import annotations

import os
from pathlib import Path

from opengte.errors import ConfigError
from opengte.loading import find_model, load
from opengte.model_folder import ModelFolder
from opengte.pipeline import pair_sources, texts
from opengte.pipeline.console import Console
from opengte.pipeline.recipe import Recipe
from opengte.pipeline.runner import StageKind, StageResult, run_recipe
from opengte.pipeline.stages import (
    classify_train,
    contrastive,
    corpus,
    distill,
    evaluate,
    export,
    filter,
    index,
    merge,
    mine,
    mlm,
    report,
    rerank_train,
    retromae,
    split,
    synthesize,
)

KINDS = {
    "corpus": StageKind(corpus.run, external_inputs=corpus.external_inputs),
    "split": StageKind(split.run, external_inputs=pair_sources.external_inputs),
    "mlm": StageKind(mlm.run, external_inputs=texts.external_inputs),
    "retromae": StageKind(retromae.run, external_inputs=texts.external_inputs),
    "contrastive": StageKind(contrastive.run, external_inputs=pair_sources.external_inputs),
    "synthesize": StageKind(synthesize.run, external_inputs=synthesize.external_inputs),
    "mine": StageKind(mine.run, external_inputs=mine.external_files),
    "filter": StageKind(filter.run, external_inputs=pair_sources.external_inputs),
    "distill": StageKind(distill.run, external_inputs=pair_sources.external_inputs),
    "rerank-train": StageKind(rerank_train.run, external_inputs=pair_sources.external_inputs),
    "classify-train": StageKind(classify_train.run, external_inputs=classify_train.external_inputs),
    "merge": StageKind(merge.run),
    "evaluate": StageKind(evaluate.run, external_inputs=evaluate.external_inputs),
    "export": StageKind(export.run),
    "index": StageKind(index.run),
    "report": StageKind(report.run),
}


def execute(
    recipe: Recipe, folder: Path, *, console: Console, until: str | None = None
) -> dict[str, StageResult]:
    """Run ``recipe`` into ``folder``; see ``runner.run_recipe``."""
    if until is not None and until not in recipe.stages:
        raise ConfigError(f"no stage {until!r}; the recipe has {', '.join(recipe.stages)}")
    prepare_process()
    return run_recipe(
        recipe,
        folder,
        kinds=KINDS,
        find_model=find_model,
        load_encoder=lambda path, max_tokens: load(path, backend="torch", max_tokens=max_tokens),
        fingerprint_model=lambda path: ModelFolder.read(path).revision,
        console=console,
        until=until,
    )


def prepare_process() -> None:
    """Set what the numeric libraries read when they are loaded; values that are set stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait slow a shared machine down fourfold (LOG.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
