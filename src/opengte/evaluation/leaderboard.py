"""Results of many models -> one table: means, Borda count, share of zero-shot cells.

What may not be mixed is not mixed: runs of two benchmark versions are refused, results that bear
one name and measure different things are different columns, and means are taken over cells that
every model of the table has and that no model of it was trained on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opengte.errors import ConfigError, DataError
from opengte.evaluation.comparison import task_identity
from opengte.evaluation.marks import IN_DOMAIN, LEAKED, ZERO_SHOT
from opengte.evaluation.published_scores import benchmark_tasks, published_name, published_scores
from opengte.evaluation.results import EvaluationRun, TaskResult


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model on one task: the mean over its seeds.

    Attributes:
        score: main metric, a fraction.
        mark: ``zero-shot``, ``in-domain train``, ``leaked``, or empty where nobody looked.
        num_seeds: runs behind it.
        published: taken from a published table, not measured here.
    """

    score: float
    mark: str = ""
    num_seeds: int = 1
    published: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of the table.

    Attributes:
        model: its name, with the retriever where that is not dense search.
        cells: by task.
        mean_task: mean over the tasks that count (see ``Leaderboard.counted``).
        mean_type: mean over kinds of tasks of the means over their tasks.
        borda: for each counted task, how many models it beats (half for a tie); summed.
        zero_shot_share: share of its marked cells that are zero-shot; None where none is marked.
        seconds: wall time of its evaluation.
        num_tokens: tokens that it embedded.
    """

    model: str
    cells: Mapping[str, Cell]
    mean_task: float | None
    mean_type: float | None
    borda: float
    zero_shot_share: float | None
    seconds: float
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The table.

    Attributes:
        rows: best mean over tasks first.
        tasks: columns: task to kind.
        counted: tasks in the means: every model has them, none was trained on them.
        benchmark: the version all runs belong to; empty for single tasks.
        complete: whether the counted tasks are all tasks of that benchmark.
    """

    rows: Sequence[Row]
    tasks: Mapping[str, str]
    counted: Sequence[str]
    benchmark: str = ""
    complete: bool = False


def build_leaderboard(
    runs: Sequence[EvaluationRun],
    *,
    benchmark: str | None = None,
    published_models: Sequence[str] = (),
) -> Leaderboard:
    """Rank models by their results.

    Args:
        runs: any number of each model; several of one model are its training seeds.
        benchmark: keep only tasks of this version; None takes what the runs were.
        published_models: hub names whose published scores join as rows; a task's column must have
            a published counterpart.

    Raises:
        DataError: no results.
        ConfigError: runs of two benchmark versions, or an unknown one.
    """
    if not runs:
        raise DataError("there are no results to rank")
    version = _version(runs, benchmark)
    columns, cells = _cells(runs)
    if version:
        wanted = benchmark_tasks(version)
        columns = {t: r for t, r in columns.items() if (published_name(r) or t) in wanted}
    for model in published_models:
        cells[model] = _published_cells(model, columns, version)
    cells = {m: {t: c for t, c in own.items() if t in columns} for m, own in cells.items()}
    counted = [t for t in columns if all(t in own and _counts(own[t]) for own in cells.values())]
    kinds = {task: result.type for task, result in columns.items()}
    rows = [_row(model, cells, counted, kinds, runs) for model in cells]
    rows.sort(key=lambda row: (-(row.mean_task if row.mean_task is not None else -1), row.model))
    complete = bool(version) and {published_name(columns[t]) or t for t in counted} == set(
        benchmark_tasks(version)
    )
    return Leaderboard(
        rows=rows, tasks=kinds, counted=counted, benchmark=version, complete=complete
    )


def leaderboard_json(board: Leaderboard) -> dict[str, Any]:
    """The table as JSON."""
    return {
        "benchmark": board.benchmark,
        "complete": board.complete,
        "tasks": dict(board.tasks),
        "counted": list(board.counted),
        "rows": [
            {
                "model": row.model,
                "mean_task": row.mean_task,
                "mean_type": row.mean_type,
                "borda": row.borda,
                "zero_shot_share": row.zero_shot_share,
                "seconds": row.seconds,
                "num_tokens": row.num_tokens,
                "cells": {
                    task: {"score": cell.score, "mark": cell.mark, "num_seeds": cell.num_seeds}
                    for task, cell in row.cells.items()
                },
            }
            for row in board.rows
        ],
    }


def leaderboard_lines(board: Leaderboard) -> list[str]:
    """The table for a terminal; ``*`` marks an in-domain cell, ``!`` a leak."""
    width = max(len("model"), *(len(row.model) for row in board.rows))
    heads = ["mean", "type", "borda", "0-shot", *board.tasks]
    lines = [f"{'model':{width}}  " + "  ".join(f"{head:>8}" for head in heads)]
    for row in board.rows:
        share = "" if row.zero_shot_share is None else f"{row.zero_shot_share:.0%}"
        values = [_number(row.mean_task), _number(row.mean_type), f"{row.borda:.1f}", share]
        for task in board.tasks:
            cell = row.cells.get(task)
            sign = "" if cell is None else {IN_DOMAIN: "*", LEAKED: "!"}.get(cell.mark, "")
            values.append("" if cell is None else f"{cell.score:.4f}{sign}")
        padded = [f"{v:>{max(8, len(h))}}" for v, h in zip(values, heads, strict=True)]
        lines.append(f"{row.model:{width}}  " + "  ".join(padded))
    lines.append(
        f"means over {len(board.counted)} of {len(board.tasks)} tasks: those that every model"
    )
    lines[-1] += " has and none was trained on"
    if board.benchmark and not board.complete:
        lines.append(f"not a score of {board.benchmark}: tasks of it are missing or not zero-shot")
    return lines


def _version(runs: Sequence[EvaluationRun], benchmark: str | None) -> str:
    versions = {run.benchmark for run in runs}
    if benchmark is not None:
        benchmark_tasks(benchmark)
        others = versions - {benchmark, ""}
        if others:
            raise ConfigError(
                f"a run belongs to {sorted(others)[0]!r}, not to {benchmark!r}: "
                "versions of a benchmark are never mixed"
            )
        return benchmark
    if len(versions - {""}) > 1:
        named = " and ".join(map(repr, sorted(versions - {""})))
        raise ConfigError(
            f"runs of {named} cannot be ranked together: versions of a benchmark are never mixed"
        )
    return next(iter(versions)) if len(versions) == 1 else ""


def _cells(
    runs: Sequence[EvaluationRun],
) -> tuple[dict[str, TaskResult], dict[str, dict[str, Cell]]]:
    """Columns, each with one result that shows what it measures, and the cells of each model."""
    scores: dict[str, dict[str, list[TaskResult]]] = defaultdict(lambda: defaultdict(list))
    identities: dict[str, list[tuple[str, str, str, int]]] = defaultdict(list)
    columns: dict[str, TaskResult] = {}
    for run in runs:
        for result in run.results.values():
            known = identities[result.name]
            identity = task_identity(result)
            if identity not in known:
                known.append(identity)
            number = known.index(identity)
            column = result.name if number == 0 else f"{result.name} ({_difference(known, number)})"
            columns.setdefault(column, result)
            model = run.model
            if result.retriever not in ("", "dense"):
                model = result.retriever if result.retriever == "bm25" else f"{model} + bm25"
            scores[model][column].append(result)
    cells = {
        model: {
            column: Cell(
                score=float(np.mean([result.main_score for result in found])),
                mark=_worst_mark([result.mark for result in found]),
                num_seeds=len(found),
            )
            for column, found in own.items()
        }
        for model, own in scores.items()
    }
    return columns, cells


def _difference(known: Sequence[tuple[str, str, str, int]], number: int) -> str:
    """What sets an identity apart from the first of its name."""
    names = ("type", "split", "metric", "items")
    pairs = zip(names, known[0], known[number], strict=True)
    return ", ".join(f"{name} {other}" for name, first, other in pairs if first != other)


def _worst_mark(marks: Sequence[str]) -> str:
    for mark in (LEAKED, IN_DOMAIN):
        if mark in marks:
            return mark
    return ZERO_SHOT if marks and all(mark == ZERO_SHOT for mark in marks) else ""


def _counts(cell: Cell) -> bool:
    return cell.mark not in (LEAKED, IN_DOMAIN)


def _published_cells(
    model: str, columns: Mapping[str, TaskResult], version: str
) -> dict[str, Cell]:
    names = {task: published_name(result) for task, result in columns.items()}
    cells: dict[str, Cell] = {}
    for score in published_scores():
        for task, name in names.items():
            fits = score.task == name and score.metric == columns[task].main_metric
            if fits and score.model == model and version in ("", score.benchmark):
                cells.setdefault(task, Cell(score=score.score, published=True))
    if not cells:
        raise ConfigError(f"no published score of {model!r} fits a task of this table")
    return cells


def _row(
    model: str,
    cells: Mapping[str, Mapping[str, Cell]],
    counted: Sequence[str],
    kinds: Mapping[str, str],
    runs: Sequence[EvaluationRun],
) -> Row:
    own = cells[model]
    by_kind: dict[str, list[float]] = defaultdict(list)
    for task in counted:
        by_kind[kinds[task]].append(own[task].score)
    marked = [cell.mark for cell in own.values() if cell.mark]
    mine = [result for run in runs if run.model == model for result in run.results.values()]
    return Row(
        model=model,
        cells=own,
        mean_task=float(np.mean([own[task].score for task in counted])) if counted else None,
        mean_type=float(np.mean([np.mean(v) for v in by_kind.values()])) if counted else None,
        borda=sum(_beaten(model, cells, task) for task in counted),
        zero_shot_share=marked.count(ZERO_SHOT) / len(marked) if marked else None,
        seconds=sum(result.seconds for result in mine),
        num_tokens=sum(result.num_tokens for result in mine),
    )


def _beaten(model: str, cells: Mapping[str, Mapping[str, Cell]], task: str) -> float:
    own = cells[model][task].score
    others = [scores[task].score for name, scores in cells.items() if name != model]
    return sum(1.0 if own > other else 0.5 if own == other else 0.0 for other in others)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
