"""A local evaluation set -> a task of ``mteb`` over the same rows, without a hub."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from opengte.errors import ConfigError
from opengte.evaluation.clustering import ClusteringConfig
from opengte.evaluation.tasks import (
    BitextTask,
    ClassificationTask,
    ClusteringTask,
    InstructionTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    SummarisationTask,
    Task,
)

_KINDS: Mapping[type[Task], tuple[str, str, str]] = {
    RetrievalTask: ("retrieval.AbsTaskRetrieval", "Retrieval", "ndcg_at_10"),
    RerankingTask: ("retrieval.AbsTaskRetrieval", "Reranking", "map_at_1000"),
    StsTask: ("sts.AbsTaskSTS", "STS", "cosine_spearman"),
    PairClassificationTask: (
        "pair_classification.AbsTaskPairClassification",
        "PairClassification",
        "max_ap",
    ),
    ClassificationTask: (
        "classification.AbsTaskClassification",
        "Classification",
        "accuracy",
    ),
    ClusteringTask: ("clustering.AbsTaskClustering", "Clustering", "v_measure"),
    BitextTask: ("text.bitext_mining.AbsTaskBitextMining", "BitextMining", "f1"),
    SummarisationTask: (
        "text.summarization.AbsTaskSummarization",
        "Summarization",
        "cosine_spearman",
    ),
}


def make_mteb_task(task: Task, *, clustering: ClusteringConfig | None = None) -> Any:
    """An mteb task that holds the rows of ``task``.

    Args:
        task: a local set.
        clustering: sizes of the clustering protocol; None takes this project's defaults.

    Raises:
        ConfigError: mteb has no protocol for this kind.
    """
    kind = next((kind for kind in _KINDS if isinstance(task, kind)), None)
    if kind is None or isinstance(task, InstructionTask):
        raise ConfigError(f"mteb has no protocol for a local {task.type} set")
    path, type_, main_score = _KINDS[kind]
    settings: dict[str, Any] = {}
    if isinstance(task, ClusteringTask):
        config = clustering or ClusteringConfig()
        if config.protocol == "whole":
            path = "clustering_legacy.AbsTaskClusteringLegacy"
        else:
            settings = {
                "max_fraction_of_documents_to_embed": config.max_fraction,
                "max_document_to_embed": config.max_texts,
                "max_documents_per_cluster": config.texts_per_experiment,
                "n_clusters": config.num_experiments,
                "k_mean_batch_size": config.batch_size or 512,
            }
        rows = _clustering(task, whole=config.protocol == "whole")
    else:
        rows = _ROWS[kind](task)
    module, _, name = path.rpartition(".")
    base = getattr(importlib.import_module(f"mteb.abstasks.{module}"), name)
    subsets = task.subsets if isinstance(task, BitextTask) else None
    if isinstance(task, SummarisationTask):
        scores = [score for scores in task.scores for score in scores]
        settings = {"min_score": min(scores), "max_score": max(scores)}
    if isinstance(task, RetrievalTask):
        settings = {"ignore_identical_ids": task.ignore_identical_ids}

    def load_data(self: Any, num_proc: int | None = None, **_: Any) -> None:
        self.dataset = rows
        self.data_loaded = True

    facts = {"metadata": _metadata(task, type_, main_score, subsets), "load_data": load_data}
    return type(task.name, (base,), {**facts, **settings})()


def _metadata(task: Task, type_: str, main_score: str, subsets: Mapping[str, object] | None) -> Any:
    metadata = importlib.import_module("mteb.abstasks.task_metadata").TaskMetadata
    languages: Any = ["eng-Latn"]
    if subsets is not None:
        languages = {name: ["eng-Latn"] for name in subsets}
    return metadata(
        name=task.name,
        description=f"local {task.type} set",
        reference=None,
        dataset={"path": f"local/{task.name}", "revision": "local"},
        type=type_,
        category="t2t",
        modalities=["text"],
        eval_splits=[task.split],
        eval_langs=languages,
        main_score=main_score,
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


def _table(columns: Mapping[str, Any]) -> Any:
    return importlib.import_module("datasets").Dataset.from_dict(dict(columns))


def _retrieval(task: RetrievalTask) -> Any:
    corpus = {
        "id": [document.id for document in task.corpus],
        "title": [document.title for document in task.corpus],
        "text": [document.text for document in task.corpus],
    }
    queries = {
        "id": [query.id for query in task.queries],
        "text": [query.text for query in task.queries],
    }
    ranked = task.candidates
    return {
        "default": {
            task.split: {
                "corpus": _table(corpus),
                "queries": _table(queries),
                "relevant_docs": {query: dict(grades) for query, grades in task.qrels.items()},
                "top_ranked": None if ranked is None else {q: list(d) for q, d in ranked.items()},
            }
        }
    }


def _reranking(task: RerankingTask) -> Any:
    corpus: dict[str, list[str]] = {"id": [], "text": []}
    qrels: dict[str, dict[str, int]] = {}
    ranked: dict[str, list[str]] = {}
    for number, (texts, labels) in enumerate(zip(task.candidates, task.labels, strict=True)):
        names = [
            f"{'apositive' if label > 0 else 'negative'}_{number}_{row:05d}"
            for row, label in enumerate(labels)
        ]
        corpus["id"] += names
        corpus["text"] += texts
        qrels[str(number)] = dict(zip(names, labels, strict=True))
        ranked[str(number)] = names
    queries = {"id": list(qrels), "text": list(task.queries)}
    part = {
        "corpus": _table(corpus),
        "queries": _table(queries),
        "relevant_docs": qrels,
        "top_ranked": ranked,
    }
    return {"default": {task.split: part}}


def _sts(task: StsTask) -> Any:
    columns = {
        "sentence1": task.sentences1,
        "sentence2": task.sentences2,
        "score": task.scores,
    }
    return {task.split: _table(columns)}


def _pairs(task: PairClassificationTask) -> Any:
    columns = {
        "sentence1": task.sentences1,
        "sentence2": task.sentences2,
        "labels": task.labels,
    }
    return {task.split: _table(columns)}


def _classification(task: ClassificationTask) -> Any:
    datasets = importlib.import_module("datasets")
    return datasets.DatasetDict(
        {
            "train": _table({"text": task.train_texts, "label": task.train_labels}),
            task.split: _table({"text": task.texts, "label": task.labels}),
        }
    )


def _clustering(task: ClusteringTask, *, whole: bool) -> Any:
    columns: dict[str, Any] = {"sentences": task.texts, "labels": task.labels}
    if whole:
        columns = {name: [values] for name, values in columns.items()}
    return {task.split: _table(columns)}


def _bitext(task: BitextTask) -> Any:
    return {
        name: {task.split: _table({"sentence1": sources, "sentence2": targets})}
        for name, (sources, targets) in task.subsets.items()
    }


def _summaries(task: SummarisationTask) -> Any:
    columns = {
        "text": [""] * len(task.human),
        "human_summaries": task.human,
        "machine_summaries": task.machine,
        "relevance": task.scores,
    }
    return {task.split: _table(columns)}


_ROWS: Mapping[type[Task], Callable[[Any], Any]] = {
    RetrievalTask: _retrieval,
    RerankingTask: _reranking,
    StsTask: _sts,
    PairClassificationTask: _pairs,
    ClassificationTask: _classification,
    BitextTask: _bitext,
    SummarisationTask: _summaries,
}
