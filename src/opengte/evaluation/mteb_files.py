"""Our results -> result files in MTEB's shape, so that its tools and tables read them.

``results/MODEL/REVISION/TASK.json`` with ``model_meta.json`` beside, as ``mteb`` writes them; mteb
itself is not needed. Metric names become MTEB's: ``ndcg@10`` is ``ndcg_at_10`` there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from opengte.atomic import write_json
from opengte.evaluation.published_scores import published_name
from opengte.evaluation.results import TaskResult
from opengte.records import EmbeddingSpace

_NAMES = {"map": "map_at_1000", "mrr": "mrr_at_1000", "p-mrr": "p-MRR"}


def mteb_metric(name: str) -> str:
    """MTEB's name of a metric."""
    return _NAMES.get(name, re.sub(r"^hit@", "hit_rate@", name).replace("@", "_at_"))


def mteb_model_name(space: EmbeddingSpace) -> str:
    """A name in the hub's form; a local folder has no organisation, so it gets ours.

    MTEB files a model without one under ``no_model_name``.
    """
    name = re.sub(r"[^\w.\-/]", "-", space.model).strip("/.-") or "model"
    return name if "/" in name else f"opengte/{name}"


def mteb_json(result: TaskResult) -> dict[str, Any]:
    """The content of a task's file."""
    subsets: dict[str, dict[str, Any]] = {"default": {}}
    if result.subsets:
        subsets = {name: {result.main_metric: value} for name, value in result.subsets.items()}
    rows = []
    for name, own in subsets.items():
        metrics = own or dict(result.metrics)
        scores = {mteb_metric(metric): value for metric, value in metrics.items()}
        main = metrics.get(result.main_metric, result.main_score)
        rows.append(
            {**scores, "main_score": main, "hf_subset": name, "languages": _languages(name)}
        )
    return {
        "dataset_revision": "local",
        "task_name": published_name(result) or result.name,
        "mteb_version": None,
        "scores": {result.split: rows},
        "evaluation_time": round(result.seconds, 3),
        "kg_co2_emissions": None,
    }


def write_mteb_files(
    folder: str | Path, space: EmbeddingSpace, results: Iterable[TaskResult]
) -> Path:
    """Write one file a task below ``folder``; results of BM25 and hybrid search are left out.

    Returns:
        The folder of this model and revision.
    """
    name = mteb_model_name(space)
    target = Path(folder) / "results" / name.replace("/", "__") / space.revision[:40]
    for result in results:
        if result.retriever in ("", "dense"):
            content = mteb_json(result)
            write_json(target / f"{content['task_name']}.json", content)
    write_json(target / "model_meta.json", model_meta_facts(space))
    return target


def model_meta_facts(space: EmbeddingSpace) -> dict[str, Any]:
    """What MTEB records of a model, as far as an embedding space tells it."""
    return {
        "name": mteb_model_name(space),
        "revision": space.revision[:40],
        "release_date": None,
        "languages": None,
        "n_parameters": None,
        "memory_usage_mb": None,
        "max_tokens": float(space.max_tokens),
        "embed_dim": space.dimensions,
        "license": None,
        "open_weights": None,
        "public_training_code": None,
        "public_training_data": None,
        "framework": [],
        "similarity_fn_name": "cosine",
        "use_instructions": bool(space.query_prompt or space.document_prompt),
        "training_datasets": None,
    }


def _languages(subset: str) -> list[str]:
    """Language codes of ``deu-eng``; ISO 639's ``und`` where the set does not say."""
    codes = subset.split("-")
    return codes if all(re.fullmatch(r"[a-z]{3}", code) for code in codes) else ["und"]
