"""The evaluate stage: a model and held-out queries -> ``results.json`` and what was found."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opengte.atomic import atomic_folder, write_json
from opengte.evaluation.evaluate import evaluate
from opengte.evaluation.load_task import load_task
from opengte.evaluation.results import results_json
from opengte.pipeline.measure import HeldOutSet, Measured, measure, summarise
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import EvaluateStage

KEPT_HITS = 5


def run(config: EvaluateStage, context: StageContext) -> Mapping[str, Any]:
    """Measure on the corpus's test set and on the general slice."""
    encoder = context.encoder(config.model)
    results: dict[str, Any] = {"model": config.model, "systems": {}, "slices": {}}
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
    if config.general:
        held_out = HeldOutSet.read(general_slice(), "test")
        measured = measure(held_out, encoder)
        everything = list(held_out.slices["all"])
        results["slices"]["general"] = summarise(
            measured.per_query["dense"], everything, held_out.groups
        )
        details["general"] = {"per_query": measured.per_query["dense"]}
    if config.tasks:
        found = [
            evaluate(encoder, load_task(path), retrievers=config.retrievers)
            for path in config.tasks
        ]
        results.update(results_json(config.model, found))
    _tell(results, context)
    with atomic_folder(context.output) as folder:
        write_json(folder / "results.json", results)
        write_json(folder / "details.json", details)
    return results


def external_inputs(config: EvaluateStage) -> Any:
    """Names, sizes and times of the files of further evaluation sets."""
    files = sorted(
        file
        for task in config.tasks
        for file in ([Path(task)] if Path(task).is_file() else Path(task).rglob("*"))
        if file.is_file()
    )
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


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
        context.console.line(f"  {name}: {task['main_metric']} {task['main_score']:.4f}")
    general = results["slices"].get("general")
    if general:
        context.console.line(f"  general MRR@10 {general['mrr@10']:.4f}")
