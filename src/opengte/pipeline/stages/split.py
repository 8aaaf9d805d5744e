"""The split stage: sources of pairs -> training pairs, and searches that nobody trains on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opengte.atomic import atomic_folder
from opengte.data.splits import split_by_group
from opengte.data.writers import write_pairs
from opengte.errors import DataError
from opengte.pipeline.corpus.held_out import build_held_out
from opengte.pipeline.corpus.split import row_components
from opengte.pipeline.pair_sources import TRAIN, load_pairs, source_settings
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import SourceConfig, SplitStage
from opengte.records import Document, Pair

LARGEST_SHARE = 0.4
"""Of the rows that can be held out; the rest trains."""


def run(config: SplitStage, context: StageContext) -> Mapping[str, Any]:
    """Hold whole groups out; what is too like them leaves the training side."""
    known = source_settings(config, context)
    pairs = [replace(p, group=_group(p, n)) for n, p in enumerate(load_pairs(config, context))]
    can_be_held = [n for n, pair in enumerate(pairs) if _is_search(pair, known)]
    if len(can_be_held) < 4:
        raise DataError(f"{len(can_be_held)} pairs can be held out as searches; four are too few")
    candidates = [pairs[n] for n in can_be_held]
    wanted = config.test_queries + config.dev_queries
    scale = min(1.0, LARGEST_SHARE * len(candidates) / wanted)
    split = split_by_group(
        [pair.group for pair in candidates],
        [row_components(candidates, threshold=config.near_duplicate_threshold)],
        num_test=max(1, math.floor(config.test_queries * scale)),
        num_dev=math.floor(config.dev_queries * scale),
        seed=context.seed,
    )
    left_out = {can_be_held[n] for part in (split.dev, split.test, split.dropped) for n in part}
    train = [pair for n, pair in enumerate(pairs) if n not in left_out]
    facts: dict[str, Any] = {
        "num_train_pairs": len(train),
        "num_dropped": len(split.dropped),
        "num_pairs": _counts(pairs),
    }
    with atomic_folder(context.output) as folder:
        write_pairs(folder / TRAIN, train)
        for name, rows in (("test", split.test), ("dev", split.dev)):
            if len(rows):
                held = [candidates[n] for n in rows]
                facts[f"num_{name}_queries"] = _write(folder / name, held, train, name, config)
    context.console.line(
        f"  {len(train):,} training pairs, {facts['num_test_queries']:,} test queries, "
        f"{len(split.dropped):,} rows too like the test set"
    )
    return facts


def _write(
    folder: Path, rows: Sequence[Pair], train: Sequence[Pair], name: str, config: SplitStage
) -> int:
    texts = dict.fromkeys(text for pair in rows for text in pair.negatives)
    texts.update(dict.fromkeys(pair.positive for pair in train))
    held_out = build_held_out(
        rows,
        [Document(id=f"x{n:06d}", text=text) for n, text in enumerate(texts)],
        num_queries=config.test_queries if name == "test" else config.dev_queries,
        num_documents=config.pool_documents,
        names={},
        seen_packages=frozenset(),
        seed=0,
    )
    held_out.write(folder, name)
    return len(held_out.queries)


def _group(pair: Pair, number: int) -> str:
    return pair.group or f"{pair.kind}:{number:07d}"


def _is_search(pair: Pair, known: Mapping[str, SourceConfig]) -> bool:
    source = known.get(pair.kind)
    return source is None or (source.in_batch_negatives and not source.scored)


def _counts(pairs: Sequence[Pair]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pair in pairs:
        counts[pair.kind] = counts.get(pair.kind, 0) + 1
    return counts
