"""The mine stage: pairs -> the same pairs with hard negatives, and a report of what was refused."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opengte.atomic import atomic_folder, write_json
from opengte.data.readers import read_pairs
from opengte.data.writers import write_pairs
from opengte.mining.bm25_teacher import BM25Teacher
from opengte.mining.mine import mine_negatives
from opengte.mining.teachers import EncoderTeacher, Teacher, WeightedTeacher
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import MineStage


def run(config: MineStage, context: StageContext) -> Mapping[str, Any]:
    """Rank the training documents for a draw of the training queries."""
    path = context.results[config.pairs].output / "train.jsonl"
    pairs = [p for p in read_pairs(path) if not config.kinds or p.kind in config.kinds]
    positions = sorted(
        random.Random(context.seed).sample(range(len(pairs)), min(config.max_queries, len(pairs)))
    )
    result = mine_negatives(
        [pairs[i] for i in positions],
        None,
        _teacher(config, context),
        replace(config.rules, seed=context.seed),
        folder=context.work / "mining",
        known_pairs=pairs,
        progress=context.console.progress("mining", unit="texts"),
    )
    mined = list(result.pairs)
    report = result.report.as_json()
    with atomic_folder(context.output) as folder:
        write_pairs(folder / "train.jsonl", mined)
        write_json(folder / "report.json", report)
    found = sum(len(pair.negatives) for pair in mined)
    context.console.line(f"  {found:,} hard negatives for {len(mined):,} queries")
    return {"num_queries": len(mined), "num_negatives": found, "report": report}


def _teacher(config: MineStage, context: StageContext) -> Teacher:
    encoder = EncoderTeacher(context.encoder(config.model))
    if config.bm25_weight == 0:
        return encoder
    words = BM25Teacher(tokenizer="code")
    if config.bm25_weight == 1:
        return words
    return WeightedTeacher((encoder, words), (1 - config.bm25_weight, config.bm25_weight))
