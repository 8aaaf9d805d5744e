"""A model and its baseline on the same queries -> the paired difference, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from opengte.contracts import TextEncoder
from opengte.errors import DataError
from opengte.evaluation.comparison import compare_systems
from opengte.evaluation.evaluate import evaluate
from opengte.evaluation.load_task import load_task
from opengte.evaluation.marks import mark_task
from opengte.evaluation.results import EvaluationRun, TaskResult
from opengte.evaluation.tasks import ClassificationTask
from opengte.evaluation.training_manifest import TrainingManifest
from opengte.metrics.bootstrap import Interval, paired_difference
from opengte.pipeline.files import find_data
from opengte.pipeline.measure import PerQuery
from opengte.pipeline.stage_configs import EvaluateStage
from opengte.pipeline.zero_shot import measure_zero_shot


def measure_tasks(
    config: EvaluateStage,
    encoder: TextEncoder,
    name: str,
    *,
    manifest: TrainingManifest | None = None,
) -> EvaluationRun:
    """Every task of the stage, by each of its retrievers, marked where a manifest says enough."""
    results: dict[str, TaskResult] = {}
    for path in config.tasks:
        task = load_task(find_data(path))
        mark = ""
        if manifest is not None and manifest.says_something:
            mark = mark_task(task, manifest)[0]
        if config.zero_shot and isinstance(task, ClassificationTask):
            found = measure_zero_shot(task, encoder)
            results[found.key] = replace(found, mark=mark)
            continue
        found = evaluate(encoder, task, retrievers=_retrievers(config))
        for one in found.by_retriever.values() or (found,):
            results[one.key] = replace(one, mark=mark)
    return EvaluationRun(model=name, results=results)


def task_differences(found: EvaluationRun, other: EvaluationRun) -> dict[str, dict[str, Any]]:
    """Task -> difference, with its interval where single items have values."""
    differences: dict[str, dict[str, Any]] = {}
    for key, result in found.results.items():
        baseline = other.results[key]
        row = {
            "metric": result.main_metric,
            "value": round(result.main_score, 4),
            "baseline": round(baseline.main_score, 4),
            "difference": round(result.main_score - baseline.main_score, 4),
            "ci95": None,
        }
        try:
            (compared,) = compare_systems(
                [EvaluationRun(model=found.model, results={key: result})],
                [EvaluationRun(model=other.model, results={key: baseline})],
            )
        except DataError:  # clustering and the like: one figure for the whole task
            differences[key] = row
            continue
        differences[key] = {
            **_row(compared.metric, compared.a, compared.b, compared.difference),
            "p_value": round(compared.p_value, 4),
        }
    return differences


def paired(
    groups: Mapping[str, str], found: PerQuery, other: PerQuery, metric: str
) -> dict[str, Any]:
    """The difference over the queries of ``groups`` (query -> group), drawn by group."""
    a, b = ([values[metric][query] for query in groups] for values in (found, other))
    difference = paired_difference(a, b, list(groups.values()))
    return _row(metric, float(np.mean(a)), float(np.mean(b)), difference)


def difference_line(name: str, row: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """``data: mrr@10 0.5000 -> 0.6000, difference +0.1000 [+0.0500, +0.1500] against base``."""
    interval = ""
    if row["ci95"] is not None:
        interval = f" [{row['ci95'][0]:+.4f}, {row['ci95'][1]:+.4f}]"
    return (
        f"{name}: {row['metric']} {row['baseline']:.4f} -> {row['value']:.4f}, difference "
        f"{row['difference']:+.4f}{interval} against {results.get('baseline', 'the baseline')}"
    )


def _row(metric: str, value: float, baseline: float, difference: Interval) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": round(value, 4),
        "baseline": round(baseline, 4),
        "difference": round(difference.mean, 4),
        "ci95": [round(difference.low, 4), round(difference.high, 4)],
    }


def _retrievers(config: EvaluateStage) -> tuple[str, ...] | None:
    return None if config.retrievers == ("dense",) else tuple(config.retrievers)
