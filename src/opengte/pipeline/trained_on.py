"""A training stage's data and its start model -> a training manifest beside the model it made.

``gte evaluate`` reads it there and tells zero-shot scores from others. All rows that a stage could
draw from are named, also where it stopped before it had seen each of them. Of a stage with more
than ``MAX_NUMBERED`` rows the largest sources are named without their texts: memory and time of
a manifest stay bounded, and it says what it leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from opengte.data.sources import Source
from opengte.evaluation.training_manifest import TrainingManifest, dataset_name
from opengte.pipeline.pair_sources import source_settings
from opengte.pipeline.recipe import BASE
from opengte.pipeline.runner import StageContext, snapshot_folder
from opengte.pipeline.stage_configs import split_snapshot
from opengte.pipeline.stage_configs.preparing import FromPairs
from opengte.records import Pair

MAX_NUMBERED = 20_000_000
"""Rows of one stage whose texts are numbered: half a gigabyte, and eight minutes of one core."""


def write_manifest(
    own: TrainingManifest, model: str, context: StageContext, *, snapshots: Sequence[float] = ()
) -> None:
    """Write what a stage's model has learned from, here and before, beside the model.

    Args:
        own: what this stage taught it.
        model: reference of the one that the stage started from.
        context: of the stage; its output is there.
        snapshots: shares of the run at which the model was kept as well.
    """
    whole = TrainingManifest.union([learned_before(model, context), own])
    whole.save(context.output)
    for share in snapshots:
        folder = snapshot_folder(context.run_folder, context.name, share)
        if folder.is_dir():
            whole.save(folder)


def carry_manifests(models: Iterable[str], context: StageContext) -> None:
    """Write beside the stage's output all that the models it was made of have learned from.

    Nothing is written where none of them knows.
    """
    learned = [learned_before(model, context) for model in models]
    TrainingManifest.union(learned).save_if_known(context.output)


def learned_before(model: str, context: StageContext) -> TrainingManifest:
    """What the model behind a reference says about itself."""
    name = context.backbone.model if model == BASE else split_snapshot(model)[0]
    return TrainingManifest.of_model(context.model_folder(model), name=name)


def learned_pairs(
    sources: Sequence[Source], config: FromPairs, context: StageContext
) -> TrainingManifest:
    """The usable rows of a mixture's sources, under the sources' names and their files'."""
    numbered, unnumbered = _within_limit(sources)
    pairs = (pair for source in numbered for pair in _usable(source))
    names = [source.name for source in sources]
    learned = TrainingManifest.from_pairs(pairs, datasets=_dataset_names(names, config, context))
    learned = replace(learned, unnumbered=unnumbered)
    renewed = (
        text
        for source in sources
        for negatives in source.refreshed
        for text in negatives.texts.flatten().to_pylist()
    )
    return TrainingManifest.union([learned, TrainingManifest.from_texts(renewed)])


def learned_texts(sources: Sequence[Source], paths: Iterable[str | None]) -> TrainingManifest:
    """The texts of sources whose other side is a number, under their names and their files'."""
    numbered, unnumbered = _within_limit(sources)
    texts = (pair.query for source in numbered for pair in _usable(source))
    names = {source.name for source in sources}
    learned = TrainingManifest.from_texts(
        texts, datasets=names | {dataset_name(path) for path in paths if path}
    )
    return replace(learned, unnumbered=unnumbered)


def _within_limit(sources: Sequence[Source]) -> tuple[list[Source], frozenset[str]]:
    """The smallest sources that fit the limit together, and the names of the others."""
    ordered = sorted(sources, key=lambda source: len(source.rows))
    totals = accumulate(len(source.rows) for source in ordered)
    fitting = sum(total <= MAX_NUMBERED for total in totals)
    return ordered[:fitting], frozenset(source.name for source in ordered[fitting:])


def _usable(source: Source) -> Iterator[Pair]:
    rows = source.usable_rows()
    return source.rows.pairs(None if rows is None else rows.astype(np.int64))


def _dataset_names(names: Sequence[str], config: FromPairs, context: StageContext) -> set[str]:
    settings = source_settings(config, context)
    known = [settings[name] for name in names if name in settings]
    return {
        *names,
        *(source.name for source in known if source.name),
        *(dataset_name(source.path) for source in known if source.path),
    }
