"""The filter stage: pairs and a judge -> the pairs worth training on, the others with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opengte.atomic import atomic_folder, write_json
from opengte.data.writers import write_pairs
from opengte.errors import DataError
from opengte.mining.filters import FilterResult, keep_consistent, keep_scored
from opengte.mining.judging import judge_positives, random_pool
from opengte.mining.teachers import EncoderTeacher, Teacher
from opengte.pipeline.pair_sources import TRAIN, load_pairs
from opengte.pipeline.rankers import open_teacher
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import FilterStage


def run(config: FilterStage, context: StageContext) -> Mapping[str, Any]:
    """Judge every pair and keep those that the rule keeps."""
    pairs = load_pairs(config, context)
    pool_size = config.pool_size if config.rule != "score" else 1
    judged = judge_positives(
        pairs,
        random_pool(pairs, pool_size, seed=context.seed),
        _judge(config, context),
        folder=context.work / "judging",
        depth=config.top_k,
        progress=context.console.progress("judging", unit="texts"),
    )
    result: FilterResult
    if config.rule == "score":
        assert config.min_score is not None
        result = keep_scored(pairs, judged, min_score=config.min_score)
    else:
        result = keep_consistent(pairs, judged, top_k=config.top_k)
    report = result.report.as_json()
    if not result.pairs:
        raise DataError(
            f"stages.{context.name}: not one of {len(pairs):,} pairs passes rule "
            f"{config.rule!r}; look at the scores in {context.work.name}/judging, and loosen it"
        )
    with atomic_folder(context.output) as folder:
        write_pairs(folder / TRAIN, result.pairs)
        write_json(folder / "report.json", report)
    context.console.line(f"  kept {len(result.pairs):,} of {len(pairs):,} pairs")
    return {
        "num_pairs": len(pairs),
        "num_kept": len(result.pairs),
        "num_dropped": len(pairs) - len(result.pairs),
        "kept": {reason: fate["count"] for reason, fate in report["kept"].items()},
        "dropped": {reason: fate["count"] for reason, fate in report["dropped"].items()},
        "score_quantiles": {
            side: {reason: fate["score_quantiles"] for reason, fate in report[side].items()}
            for side in ("kept", "dropped")
        },
    }


def _judge(config: FilterStage, context: StageContext) -> Teacher:
    if config.teacher is not None:
        return open_teacher(config.teacher, context, first=None)
    assert config.model is not None
    return EncoderTeacher(context.encoder(config.model))
