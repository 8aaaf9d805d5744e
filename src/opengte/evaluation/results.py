"""What an evaluation found, and the JSON files that hold it.

``results.json`` is ``{"model", "tasks": {NAME: {"type", "main_metric", "main_score", "ci95",
"metrics", ...}}}`` with NAME = TASK, or TASK/RETRIEVER where retrievers are named. Values of single
queries stand beside it, in ``per_query/NAME.json``. Scores are fractions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opengte.atomic import write_json
from opengte.errors import DataError

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One model (or word index) on one task.

    Attributes:
        name: of the task.
        type: of the task.
        split: of the task.
        retriever: ``dense``, ``bm25``, ``hybrid``; empty for tasks that search nothing.
        main_metric: name of the figure that stands for the task.
        main_score: that figure, a fraction.
        ci95: its 95 % interval.
        interval_scope: what the interval was drawn from; ``queries only`` knows one training seed.
        metrics: all figures.
        per_query: metric to {item id: value}.
        num_items: queries, pairs or texts measured.
        seconds: wall time of embedding and measuring.
        num_tokens: tokens of the texts that were embedded.
        truncated_share: share of distinct texts that were cut.
        notes: what was left out of the data, by reason.
        subsets: main metric by language pair or the like.
        mark: ``zero-shot``, ``in-domain train`` or ``leaked``; empty where nobody looked.
        origin: ``mteb`` where mteb ran its own data; empty for local sets.
        corpus_size: documents that were searched; 0 where nothing is.
        by_retriever: all results of this task by retriever, this one included.
    """

    name: str
    type: str
    split: str
    main_metric: str
    main_score: float
    ci95: tuple[float, float]
    metrics: Mapping[str, float]
    retriever: str = ""
    interval_scope: str = "queries only"
    per_query: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    num_items: int = 0
    seconds: float = 0.0
    num_tokens: int = 0
    truncated_share: float = 0.0
    notes: Mapping[str, int] = field(default_factory=dict)
    subsets: Mapping[str, float] = field(default_factory=dict)
    mark: str = ""
    origin: str = ""
    corpus_size: int = 0
    by_retriever: Mapping[str, TaskResult] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """TASK, or TASK/RETRIEVER."""
        return f"{self.name}/{self.retriever}" if self.retriever else self.name

    def to_json(self) -> dict[str, Any]:
        """The cell of ``results.json``, without the values of single items."""
        facts: dict[str, Any] = {
            "type": self.type,
            "split": self.split,
            "main_metric": self.main_metric,
            "main_score": self.main_score,
            "ci95": list(self.ci95),
            "interval_scope": self.interval_scope,
            "metrics": dict(self.metrics),
            "num_items": self.num_items,
            "seconds": round(self.seconds, 3),
            "num_tokens": self.num_tokens,
            "truncated_share": self.truncated_share,
        }
        for name in ("notes", "subsets", "mark", "origin", "corpus_size"):
            if getattr(self, name):
                value = getattr(self, name)
                facts[name] = dict(value) if isinstance(value, Mapping) else value
        return facts


def results_json(model: str, results: Iterable[TaskResult]) -> dict[str, Any]:
    """The content of ``results.json``."""
    return {"model": model, "tasks": {result.key: result.to_json() for result in results}}


def write_results(path: str | Path, model: str, results: Iterable[TaskResult]) -> Path:
    """Write results to a ``.json`` file, or to a folder together with the values of single items.

    Args:
        path: a file that ends in ``.json``, or a folder.
        model: name of the model.
        results: one a task and retriever.

    Returns:
        The file of results.
    """
    path, results = Path(path), list(results)
    if path.suffix == ".json":
        write_json(path, results_json(model, results))
        return path
    for result in results:
        if result.per_query:
            values = {metric: dict(items) for metric, items in result.per_query.items()}
            write_json(path / "per_query" / f"{result.key}.json", values)
    write_json(path / RESULTS, results_json(model, results))
    return path / RESULTS


def read_results(path: str | Path) -> tuple[str, dict[str, TaskResult]]:
    """Model and results by key, from a file or folder that ``write_results`` wrote.

    Raises:
        DataError: no such file, or not what it should be.
    """
    path = Path(path)
    file = path / RESULTS if path.is_dir() else path
    content = read_json(file)
    try:
        cells = {key: _from_json(key, cell) for key, cell in content["tasks"].items()}
        model = str(content["model"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"no results of an evaluation: {error!r} is wrong", path=file) from error
    found = {}
    for key, facts in cells.items():
        values = file.parent / "per_query" / f"{key}.json"
        found[key] = TaskResult(**facts, per_query=read_json(values) if values.is_file() else {})
    return model, found


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {error}", path=path) from error


def _from_json(key: str, cell: dict[str, Any]) -> dict[str, Any]:
    name, _, retriever = key.partition("/")
    low, high = cell["ci95"]
    optional = ["interval_scope", "num_items", "seconds", "num_tokens", "truncated_share"]
    optional += ["notes", "subsets", "mark", "origin", "corpus_size"]
    facts = {name: cell[name] for name in optional if name in cell}
    return {
        "name": name,
        "retriever": retriever,
        "type": cell["type"],
        "split": cell.get("split", "test"),
        "main_metric": cell["main_metric"],
        "main_score": float(cell["main_score"]),
        "ci95": (float(low), float(high)),
        "metrics": cell["metrics"],
        **facts,
    }
