"""Scores that others published, as data, and which local result each may stand beside.

The tables lie in ``published/*.yaml`` with their sources. A local result is compared only where
name, split and number of scored items are those of the published task: half a test set, or
another version of it, has no published score.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from opengte.errors import ConfigError
from opengte.evaluation.results import TaskResult


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """One cell of a published table.

    Attributes:
        benchmark: the version it belongs to, e.g. ``MTEB(eng, v1)``.
        task: MTEB's name of the task.
        type: kind of the task.
        metric: what the score is, in this project's words.
        model: name on the hub.
        score: a fraction.
        by_authors: reported on the model card, not run by MTEB's maintainers.
        on_dev: measured on the development split, because test labels are hidden.
        source: where it was read.
    """

    benchmark: str
    task: str
    type: str
    metric: str
    model: str
    score: float
    by_authors: bool
    on_dev: bool
    source: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A result of ours beside a published one of the same task and metric."""

    key: str
    task: str
    metric: str
    ours: float
    published: PublishedScore

    @property
    def difference(self) -> float:
        """Ours minus theirs."""
        return self.ours - self.published.score


@functools.cache
def published_scores() -> tuple[PublishedScore, ...]:
    """All published scores that ship with the package."""
    return tuple(
        score for name in _tables() if "tasks" in (table := _table(name)) for score in _cells(table)
    )


@functools.cache
def benchmark_tasks(name: str) -> Mapping[str, str]:
    """The tasks of a benchmark version: name to kind.

    Raises:
        ConfigError: the benchmark is unknown; the message lists the known ones.
    """
    benchmarks = _table("benchmarks.yaml")["benchmarks"]
    if name not in benchmarks:
        known = ", ".join(repr(known) for known in benchmarks)
        raise ConfigError(f"unknown benchmark {name!r}; known are {known}")
    return {task: kind for kind, tasks in benchmarks[name].items() for task in tasks}


def published_name(result: TaskResult) -> str | None:
    """MTEB's name of the task that this result measures, or None where there is none.

    A result that bears MTEB's name already was measured on MTEB's own data.
    """
    if result.origin == "mteb":
        return result.name
    plain = _plain(result.name)
    for task, facts in _table("local_sets.yaml")["sets"].items():
        named = plain in {_plain(task), *facts["names"]}
        if not named or facts["split"] != result.split or facts["items"] != result.num_items:
            continue
        if "corpus" in facts and facts["corpus"] != result.corpus_size:
            continue
        return str(task)
    return None


def compare_with_published(
    results: Iterable[TaskResult], *, models: Sequence[str] | None = None
) -> list[Comparison]:
    """Our results beside all published ones of the same task and metric.

    Args:
        results: of one model; results of BM25 and hybrid search have no published counterpart.
        models: hub names to compare with; None takes all.

    Returns:
        By task, the best published first.
    """
    rows = []
    for result in results:
        task = published_name(result)
        if task is None or result.retriever not in ("", "dense"):
            continue
        rows += [
            Comparison(result.key, task, score.metric, result.metrics[score.metric], score)
            for score in published_scores()
            if score.task == task
            and score.metric in result.metrics
            and (models is None or score.model in models)
        ]
    return sorted(rows, key=lambda row: (row.task, row.published.benchmark, -row.published.score))


def _cells(table: Mapping[str, Any]) -> Iterable[PublishedScore]:
    for task, facts in table["tasks"].items():
        for model, cell in facts["scores"].items():
            score, *marks = cell if isinstance(cell, list) else [cell]
            yield PublishedScore(
                benchmark=table["benchmark"],
                task=task,
                type=facts["type"],
                metric=facts["metric"],
                model=model,
                score=float(score),
                by_authors="authors" in marks,
                on_dev="dev" in marks,
                source=table["source"],
            )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _tables() -> list[str]:
    folder = files("opengte.evaluation") / "published"
    return sorted(file.name for file in folder.iterdir() if file.name.endswith(".yaml"))


@functools.cache
def _table(name: str) -> dict[str, Any]:
    text = (files("opengte.evaluation") / "published" / name).read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table
