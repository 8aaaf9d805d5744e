"""An encoder and a task -> numbers with intervals. No torch here."""

from __future__ import annotations

from opengte.evaluation.embedding_cache import EmbeddingCache
from opengte.evaluation.evaluate import EvaluationConfig, evaluate
from opengte.evaluation.load_task import load_task
from opengte.evaluation.results import TaskResult, read_results, write_results
from opengte.evaluation.tasks import Task

__all__ = [
    "EmbeddingCache",
    "EvaluationConfig",
    "Task",
    "TaskResult",
    "evaluate",
    "load_task",
    "read_results",
    "write_results",
]
