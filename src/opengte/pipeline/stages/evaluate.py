"""The evaluate stage: a model and held-out queries -> ``results.json`` and what was found."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opengte.atomic import atomic_folder, write_json
from opengte.evaluation.results import results_json
from opengte.pipeline.comparing import (
    difference_line,
    measure_tasks,
    paired,
    task_differences,
)
from opengte.pipeline.files import file_marks
from opengte.pipeline.measure import HeldOutSet, Measured, measure, summarise
from opengte.pipeline.measure_reranker import measure_reranker
from opengte.pipeline.rankers import open_reranker
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import EvaluateStage
from opengte.pipeline.trained_on import learned_before

KEPT_HITS = 5


def run(config: EvaluateStage, context: StageContext) -> Mapping[str, Any]:
    """Measure on the corpus's test set, on the general slice and on tasks."""
    reranker = open_reranker(config.model, context)
    if reranker is not None:
        return _finish(config, context, *measure_reranker(config, context, reranker))
    encoder = context.encoder(config.model)
    baseline = None if config.baseline is None else context.encoder(config.baseline)
    results: dict[str, Any] = {
        "model": config.model, "systems": {}, "slices": {}, "differences": {}
    }  # fmt: skip
    details: dict[str, Any] = {}
    if config.data is not None:
        held_out = HeldOutSet.read(context.results[config.data].output / "test", "test")
        progress = context.console.progress(f"embedding the pool with {config.model}", unit="texts")
        measured = measure(
            held_out,
            encoder,
            retrievers=config.retrievers,
            with_masked=config.slices,
            progress=progress,
        )
        results.update(_results(held_out, measured, config))
        details["test"] = _details(held_out, measured)
        if baseline is not None:
            before = measure(held_out, baseline, with_masked=False)
            results["differences"][config.data] = paired(
                held_out.groups, measured.per_query["dense"], before.per_query["dense"], "mrr@10"
            )
    if config.general:
        held_out = HeldOutSet.read(general_slice(), "test")
        measured = measure(held_out, encoder)
        everything = list(held_out.slices["all"])
        results["slices"]["general"] = summarise(
            measured.per_query["dense"], everything, held_out.groups
        )
        details["general"] = {"per_query": measured.per_query["dense"]}
    if config.tasks:
        learned = learned_before(config.model, context)
        found = measure_tasks(config, encoder, config.model, manifest=learned)
        results["tasks"] = results_json(config.model, found.results.values())["tasks"]
        if baseline is not None:
            other = measure_tasks(config, baseline, str(config.baseline))
            results["differences"].update(task_differences(found, other))
    return _finish(config, context, results, details)


def external_inputs(config: EvaluateStage) -> Any:
    """Names, sizes and times of the files of further evaluation sets."""
    return file_marks(config.tasks)


def _finish(
    config: EvaluateStage,
    context: StageContext,
    results: dict[str, Any],
    details: Mapping[str, Any],
) -> Mapping[str, Any]:
    if config.baseline is not None:
        results["baseline"] = config.baseline
    if config.benchmark:
        results["benchmark"] = config.benchmark
    _tell(results, context)
    with atomic_folder(context.output) as folder:
        write_json(folder / "results.json", results)
        write_json(folder / "details.json", details)
    return results


def general_slice() -> Path:
    """The folder of the general evaluation set that comes with the package."""
    return Path(str(importlib.resources.files("opengte") / "recipes" / "general"))


def _results(held_out: HeldOutSet, measured: Measured, config: EvaluateStage) -> dict[str, Any]:
    everything = list(held_out.slices["all"])
    systems = {
        name: summarise(measured.per_query[name], everything, held_out.groups)
        for name in config.retrievers
    }
    slices = {}
    for name, queries in held_out.slices.items() if config.slices else ():
        by_mask = name == "name_masked" and "name_masked" in measured.per_query
        per_query = measured.per_query["name_masked" if by_mask else "dense"]
        slices[name] = summarise(per_query, list(queries), held_out.groups)
    return {
        "systems": systems,
        "slices": slices,
        "num_queries": len(everything),
        "num_documents": len(held_out.documents),
        "truncated_share": round(measured.num_truncated / max(1, measured.num_texts), 4),
        "num_tokens": measured.num_tokens,
    }


def _details(held_out: HeldOutSet, measured: Measured) -> dict[str, Any]:
    """What the report compares query by query."""
    return {
        "per_query": measured.per_query,
        "hits": {
            query: [[hit.id, round(hit.score, 4)] for hit in hits[:KEPT_HITS]]
            for query, hits in measured.rankings["dense"].items()
        },
        "rank": {
            query: next((hit.rank for hit in hits if hit.id in held_out.qrels[query]), None)
            for query, hits in measured.rankings["dense"].items()
        },
        "similarities": {
            name: [round(value, 4) for value in values]
            for name, values in measured.similarities.items()
        },
    }


def _tell(results: Mapping[str, Any], context: StageContext) -> None:
    for name, row in results["systems"].items():
        low, high = row["ci95"]
        context.console.line(
            f"  {name:7} MRR@10 {row['mrr@10']:.4f} [{low:.4f}, {high:.4f}]  "
            f"nDCG@10 {row['ndcg@10']:.4f}  recall@10 {row['recall@10']:.4f}"
        )
    for name, task in results.get("tasks", {}).items():
        mark = f"  {task['mark']}" if "mark" in task else ""
        context.console.line(f"  {name}: {task['main_metric']} {task['main_score']:.4f}{mark}")
    for name, row in results["differences"].items():
        context.console.line("  " + difference_line(name, row, results))
    general = results["slices"].get("general")
    if general:
        context.console.line(f"  general MRR@10 {general['mrr@10']:.4f}")
