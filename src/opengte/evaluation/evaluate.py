"""An encoder and a task -> a result. Each kind of task has a module; this one chooses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from opengte.contracts import Progress, TextEncoder
from opengte.errors import ConfigError
from opengte.evaluation.bitext import measure_bitext
from opengte.evaluation.classification import ClassificationConfig, measure_classification
from opengte.evaluation.clustering import ClusteringConfig, measure_clustering
from opengte.evaluation.code_search import measure_code_search
from opengte.evaluation.embedding_cache import EmbeddingCache
from opengte.evaluation.instruction_following import measure_instruction_following
from opengte.evaluation.measurement import Embedder, Measurement
from opengte.evaluation.pair_classification import measure_pair_classification
from opengte.evaluation.reranking import measure_reranking
from opengte.evaluation.results import TaskResult
from opengte.evaluation.retrieval import RetrievalConfig, measure_retrieval
from opengte.evaluation.sts import measure_sts
from opengte.evaluation.summarisation import measure_summarisation
from opengte.evaluation.tasks import (
    BitextTask,
    ClassificationTask,
    ClusteringTask,
    CodeSearchTask,
    InstructionTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    SummarisationTask,
    Task,
)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Settings of all protocols; the defaults are MTEB's.

    Attributes:
        retrieval: depth, BM25 tokenizer, main metric.
        classification: experiments and samples.
        clustering: which protocol, and its sizes.
        prompts: prompt texts by task name or task type, for models that want them.
        dimensions: cut vectors to so many values (Matryoshka); None leaves them.
        seed: of the bootstrap intervals.
    """

    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    prompts: Mapping[str, str] = field(default_factory=dict)
    dimensions: int | None = None
    seed: int = 0


def evaluate(
    encoder: TextEncoder | None,
    task: Task,
    *,
    retrievers: Sequence[str] | None = None,
    config: EvaluationConfig | None = None,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
) -> TaskResult:
    """Measure a model on a task.

    Args:
        encoder: the model; None where ``bm25`` alone retrieves.
        task: from ``load_task``, or made by hand.
        retrievers: for retrieval, any of ``dense``, ``bm25`` and ``hybrid``; the corpus is embedded
            once for all, and results are named TASK/RETRIEVER. None is dense search, named TASK.
        config: settings of the protocols.
        cache: shared between calls, so that a corpus is embedded once a model.
        progress: told how many texts are embedded.

    Returns:
        The result of the first retriever; ``by_retriever`` has them all.

    Raises:
        ConfigError: an unknown retriever or task, or no encoder where one is needed.
    """
    config = config or EvaluationConfig()
    started = time.perf_counter()
    embedder = None
    if encoder is not None:
        embedder = Embedder(
            encoder=encoder,
            cache=cache or EmbeddingCache(),
            task_type=task.type,
            task_name=task.name,
            prompts=config.prompts,
            dimensions=config.dimensions,
            progress=progress,
        )
    if isinstance(task, RetrievalTask):
        names = ("dense",) if retrievers is None else tuple(retrievers)
        if not names:
            raise ConfigError("retrieval needs at least one retriever")
        search = next(run for kind, run in _SEARCHES.items() if isinstance(task, kind))
        measured = search(task, embedder, names, config.retrieval, seed=config.seed)
        seconds = time.perf_counter() - started
        results = {
            name: _result(
                task,
                measurement,
                embedder if name != "bm25" else None,
                seconds,
                "" if retrievers is None else name,
            )
            for name, measurement in measured.items()
        }
        return replace(results[names[0]], by_retriever=results)
    if embedder is None:
        raise ConfigError(f"a {task.type} task needs an encoder")
    measurement = _measure(task, embedder, config)
    return _result(task, measurement, embedder, time.perf_counter() - started, "")


def _measure(task: Task, embedder: Embedder, config: EvaluationConfig) -> Measurement:
    for kind, measure in _PROTOCOLS.items():
        if isinstance(task, kind):
            return measure(task, embedder, config)
    raise ConfigError(f"no protocol for a task of {type(task).__name__}")


def _result(
    task: Task,
    measurement: Measurement,
    embedder: Embedder | None,
    seconds: float,
    retriever: str,
) -> TaskResult:
    cost = embedder.cost if embedder is not None else None
    interval = measurement.interval
    return TaskResult(
        name=task.name,
        type=task.type,
        split=task.split,
        retriever=retriever,
        main_metric=measurement.main_metric,
        main_score=measurement.metrics[measurement.main_metric],
        ci95=(interval.low, interval.high),
        interval_scope=interval.scope,
        metrics=measurement.metrics,
        per_query=measurement.per_query,
        num_items=measurement.num_items,
        seconds=seconds,
        num_tokens=cost.num_tokens if cost else 0,
        truncated_share=cost.num_truncated / max(1, cost.num_texts) if cost else 0.0,
        notes=task.notes,
        subsets=measurement.subsets,
        items=measurement.items,
        corpus_size=len(task.corpus) if isinstance(task, RetrievalTask) else 0,
    )


# The narrower kinds first: each is a retrieval task too.
_SEARCHES: dict[type[RetrievalTask], Callable[..., dict[str, Measurement]]] = {
    CodeSearchTask: measure_code_search,
    InstructionTask: measure_instruction_following,
    RetrievalTask: measure_retrieval,
}

_PROTOCOLS: dict[type[Task], Callable[[Any, Embedder, EvaluationConfig], Measurement]] = {
    StsTask: lambda t, e, c: measure_sts(t, e, seed=c.seed),
    PairClassificationTask: lambda t, e, c: measure_pair_classification(t, e, seed=c.seed),
    ClassificationTask: lambda t, e, c: measure_classification(t, e, c.classification, seed=c.seed),
    ClusteringTask: lambda t, e, c: measure_clustering(t, e, c.clustering, seed=c.seed),
    RerankingTask: lambda t, e, c: measure_reranking(t, e, seed=c.seed),
    SummarisationTask: lambda t, e, c: measure_summarisation(t, e, seed=c.seed),
    BitextTask: lambda t, e, c: measure_bitext(t, e, seed=c.seed),
}
