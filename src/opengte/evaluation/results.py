"""What an evaluation found, and the JSON files that hold it.

``results.json`` is ``{"model", "tasks": {NAME: {"type", "main_metric", "main_score", "ci95",
"metrics", ...}}}`` with NAME = TASK, or TASK/RETRIEVER where retrievers are named; ``seed`` (of the
training) and ``benchmark`` (a version of one) stand there when they are known. Values and texts of
single queries lie beside it, in ``per_query/NAME.json``. Scores are fractions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from opengte.atomic import write_json
from opengte.errors import DataError

RESULTS = "results.json"


@dataclass(frozen=True, slots=True)
class FoundText:
    """A document that was found, for people to look at.

    Attributes:
        id: of the document.
        score: of the retriever.
        grade: its relevance; None where nobody judged it.
        text: its beginning.
    """

    id: str
    score: float
    grade: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """A query, pair or text that was measured, for people to look at and intervals to group.

    Attributes:
        text: what was asked, or the pair.
        group: what it belongs to (a package, a folder); intervals draw groups as a whole.
        hits: the first documents found.
        relevant: the judged relevant documents that are not among them, some of them.
    """

    text: str = ""
    group: str = ""
    hits: tuple[FoundText, ...] = ()
    relevant: tuple[FoundText, ...] = ()


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
        items: item id to its text, group and hits, as far as they were kept.
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
    items: Mapping[str, Item] = field(default_factory=dict, repr=False)
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


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """All results of one model in one evaluation.

    Attributes:
        model: its name.
        results: by key, TASK or TASK/RETRIEVER.
        seed: of the training, where the model is one of several seeds.
        benchmark: the version of a benchmark that was run; empty for single tasks.
        path: where it was read.
        unknown_starts: models it was trained on from whose own training data nobody knows, and
            sources of too many texts to look through: ``zero-shot`` speaks of all others.
    """

    model: str
    results: Mapping[str, TaskResult]
    seed: int | None = None
    benchmark: str = ""
    path: Path | None = None
    unknown_starts: tuple[str, ...] = ()


def results_json(
    model: str,
    results: Iterable[TaskResult],
    *,
    seed: int | None = None,
    benchmark: str = "",
    unknown_starts: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of ``results.json``."""
    facts: dict[str, Any] = {"model": model}
    if seed is not None:
        facts["seed"] = seed
    if benchmark:
        facts["benchmark"] = benchmark
    if unknown_starts:
        facts["unknown_starts"] = list(unknown_starts)
    return {**facts, "tasks": {result.key: result.to_json() for result in results}}


def write_results(
    path: str | Path,
    model: str,
    results: Iterable[TaskResult],
    *,
    seed: int | None = None,
    benchmark: str = "",
    unknown_starts: Sequence[str] = (),
) -> Path:
    """Write results to a ``.json`` file, or to a folder together with the values of single items.

    Args:
        path: a file that ends in ``.json``, or a folder.
        model: name of the model.
        results: one a task and retriever.
        seed: of the model's training, where it is one of several.
        benchmark: the version of a benchmark that these tasks make up.
        unknown_starts: as in ``EvaluationRun``.

    Returns:
        The file of results.
    """
    path, results = Path(path), list(results)
    content = results_json(
        model, results, seed=seed, benchmark=benchmark, unknown_starts=unknown_starts
    )
    if path.suffix == ".json":
        write_json(path, content)
        return path
    for result in results:
        if result.per_query:
            write_json(path / "per_query" / f"{result.key}.json", _items_json(result))
    write_json(path / RESULTS, content)
    return path / RESULTS


def read_run(path: str | Path) -> EvaluationRun:
    """What ``write_results`` wrote, from its file or folder.

    Raises:
        DataError: no such file, or not what it should be.
    """
    path = Path(path)
    file = path / RESULTS if path.is_dir() else path
    content = read_json(file)
    try:
        results = {
            key: _from_json(key, cell, file.parent / "per_query" / f"{key}.json")
            for key, cell in content["tasks"].items()
        }
        return EvaluationRun(
            model=str(content["model"]),
            results=results,
            seed=content.get("seed"),
            benchmark=content.get("benchmark", ""),
            path=file,
            unknown_starts=tuple(map(str, content.get("unknown_starts", ()))),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"no results of an evaluation: {error!r} is wrong", path=file) from error


def read_results(path: str | Path) -> tuple[str, dict[str, TaskResult]]:
    """Model and results by key; see ``read_run``."""
    run = read_run(path)
    return run.model, dict(run.results)


def find_runs(paths: Iterable[str | Path]) -> list[EvaluationRun]:
    """All runs in files and folders, searched through; the same file is read once.

    Raises:
        DataError: a path holds no results.
    """
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        found = [path] if path.is_file() else sorted(path.rglob(RESULTS))
        if not found:
            raise DataError(f"no {RESULTS} here; write one with: gte evaluate", path=path)
        files |= {file.resolve(): None for file in found}
    return [read_run(file) for file in files]


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {error}", path=path) from error


def _items_json(result: TaskResult) -> dict[str, Any]:
    metrics = {metric: dict(items) for metric, items in result.per_query.items()}
    return {"metrics": metrics, "items": {key: asdict(item) for key, item in result.items.items()}}


def _from_json(key: str, cell: dict[str, Any], details: Path) -> TaskResult:
    name, _, retriever = key.partition("/")
    low, high = cell["ci95"]
    optional = ["interval_scope", "num_items", "seconds", "num_tokens", "truncated_share"]
    optional += ["notes", "subsets", "mark", "origin", "corpus_size"]
    content = read_json(details) if details.is_file() else {"metrics": {}, "items": {}}
    return TaskResult(
        name=name,
        retriever=retriever,
        type=cell["type"],
        split=cell.get("split", "test"),
        main_metric=cell["main_metric"],
        main_score=float(cell["main_score"]),
        ci95=(float(low), float(high)),
        metrics=cell["metrics"],
        per_query=content["metrics"],
        items={key: _item(facts) for key, facts in content["items"].items()},
        **{name: cell[name] for name in optional if name in cell},
    )


def _item(facts: dict[str, Any]) -> Item:
    hits, relevant = (
        tuple(FoundText(**hit) for hit in facts[name]) for name in ("hits", "relevant")
    )
    return Item(facts["text"], facts["group"], hits, relevant)
