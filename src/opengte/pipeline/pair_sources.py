"""What a stage's settings say about pairs -> sources of a mixture, or the pairs themselves.

Pairs that another stage made keep the facts of the source they came from (prompts, task,
symmetry): a pair's ``kind`` is the name of its source.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opengte.data.build import build_store
from opengte.data.manifest import MANIFEST
from opengte.data.readers import read_pairs
from opengte.data.sources import Source
from opengte.data.store import PairStore
from opengte.errors import ConfigError
from opengte.pipeline.files import file_marks, find_data
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import SourceConfig
from opengte.pipeline.stage_configs.preparing import FromPairs
from opengte.records import Pair

FORMATS = {None: "auto", "labels": "class-labels", "examples": "class-examples",
           "graded": "sts", "nli": "nli"}  # fmt: skip
"""How labelled rows become pairs -> the reader's name for it."""
TRAIN = "train.jsonl"


def open_sources(config: FromPairs, context: StageContext) -> list[Source]:
    """The sources of a mixture, ready for batches.

    Files are built into stores below the stage's work folder, so that memory holds no text.

    Raises:
        ConfigError: a source has no path, or no pair is of the wanted kinds.
        DataError: a file cannot be read.
    """
    opened = [_open(name, source, context) for name, source in config.sources.items()]
    if config.pairs is not None:
        made = make_sources(stage_pairs(config, context), source_settings(config, context))
        opened.extend(made)
    return opened


def make_sources(
    pairs: Sequence[Pair], known: Mapping[str, SourceConfig] | None = None
) -> list[Source]:
    """One source a kind of pairs, with the facts of ``known`` where it is among them."""
    by_kind: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_kind.setdefault(pair.kind or "pairs", []).append(pair)
    settings = known or {}
    return [
        Source.from_pairs(kind, rows, **(_facts(settings[kind]) if kind in settings else {}))
        for kind, rows in sorted(by_kind.items())
    ]


def load_pairs(config: FromPairs, context: StageContext) -> list[Pair]:
    """All pairs in memory, each with the name of its source as ``kind``; unmatched ones left out.

    Raises:
        ConfigError, DataError: as ``open_sources``.
    """
    made = [] if config.pairs is None else stage_pairs(config, context)
    return made + [
        replace(pair, kind=name)
        for name, source in config.sources.items()
        for pair in read_source_pairs(name, source, context)
        if is_match(pair, source)
    ]


def stage_pairs(config: FromPairs, context: StageContext) -> list[Pair]:
    """The pairs of the stage that ``config`` names, of the kinds it wants."""
    assert config.pairs is not None
    path = context.results[config.pairs].output / TRAIN
    pairs = [p for p in read_pairs(path) if not config.kinds or p.kind in config.kinds]
    if not pairs:
        raise ConfigError(
            f"stages.{context.name}.kinds: no pair of {config.pairs!r} is of kind "
            f"{', '.join(config.kinds)}"
        )
    return pairs


def source_settings(config: FromPairs, context: StageContext) -> Mapping[str, SourceConfig]:
    """The settings of the sources that pairs came from, however many stages ago."""
    found: dict[str, SourceConfig] = {}
    earlier: object = config
    while isinstance(earlier, FromPairs):
        found = {**earlier.sources, **found}
        earlier = context.stages.get(earlier.pairs or "")
    return found


def read_source_pairs(name: str, source: SourceConfig, context: StageContext) -> Iterator[Pair]:
    """The rows of one source, at most ``max_pairs`` of them."""
    path = source_path(name, source, context)
    if is_store(path):
        rows: Iterator[Pair] = PairStore(path).pairs(source.name or name)
    else:
        rows = read_pairs(path, format=FORMATS[source.convert])
    if source.max_pairs is None:
        yield from rows
        return
    everything = list(rows)
    yield from (everything[i] for i in _drawn(len(everything), source.max_pairs, name, context))


def source_path(name: str, source: SourceConfig, context: StageContext) -> Path:
    """Where a source lies.

    Raises:
        ConfigError: the recipe does not say, or there is nothing.
    """
    if source.path is None:
        raise ConfigError(
            f"stages.{context.name}.sources.{name}.path is not set: the recipe can be planned "
            "but not run; give the file, folder or pair store"
        )
    return find_data(source.path)


def is_match(pair: Pair, source: SourceConfig) -> bool:
    """Whether the positive answers the query, as the source's ``min_score`` sees it."""
    return pair.score is None or (pair.score > 0 and pair.score >= source.min_score)


def is_store(path: Path) -> bool:
    """Whether a folder is a pair store."""
    return (path / MANIFEST).is_file()


def external_inputs(config: FromPairs) -> Any:
    """What changes when a file that the sources read does."""
    return file_marks(source.path for source in config.sources.values())


def count_rows(config: FromPairs, sources: Sequence[Source]) -> dict[str, dict[str, int]]:
    """Source -> rows that are used, and the published number where it is another."""
    counts = {}
    for source in sources:
        usable = source.usable_rows()
        counts[source.name] = {"rows": len(source.rows if usable is None else usable)}
        known = config.sources.get(source.name)
        published = known.num_pairs if known else None
        if published is not None and published != counts[source.name]["rows"]:
            counts[source.name]["published"] = published
    return counts


def _open(name: str, source: SourceConfig, context: StageContext) -> Source:
    facts = _facts(source)
    path = source_path(name, source, context)
    if source.max_pairs is not None:
        return Source.from_pairs(name, read_source_pairs(name, source, context), **facts)
    if is_store(path):
        return replace(PairStore(path).source(source.name or name, **facts), name=name)
    folder = context.work / "stores" / name
    if not is_store(folder):
        build_store([path], folder, num_workers=1, format=FORMATS[source.convert])
    store = PairStore(folder)
    return replace(store.source(store.names[0], **facts), name=name)


def _facts(source: SourceConfig) -> dict[str, Any]:
    names = ("task", "query_prompt", "document_prompt", "symmetric", "in_batch_negatives",
             "scored", "min_score", "weight")  # fmt: skip
    return {name: getattr(source, name) for name in names}


def _drawn(number: int, wanted: int, name: str, context: StageContext) -> list[int]:
    chooser = random.Random(f"{context.seed}/{name}")
    return sorted(chooser.sample(range(number), min(wanted, number)))
