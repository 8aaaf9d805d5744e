"""Results -> one page that stands alone: ranking, comparison, and every query to look at.

The page holds its data, style and script; it opens from a disk without a network. All texts are
data of the evaluation sets and are never run: they stand in one JSON block, set as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from opengte.atomic import write_text
from opengte.errors import DataError
from opengte.evaluation.comparison import compare_models
from opengte.evaluation.leaderboard import build_leaderboard
from opengte.evaluation.published_scores import Comparison, compare_with_published
from opengte.evaluation.results import EvaluationRun, FoundText, Item, TaskResult

_SHOWN_ITEMS = 1_000  # of a task; the widest differences first


def write_page(
    path: str | Path,
    runs: Sequence[EvaluationRun],
    *,
    baseline: str | None = None,
    published: bool = False,
    title: str = "Evaluation",
) -> Path:
    """Write the page.

    Args:
        path: an ``.html`` file.
        runs: results of one model or more; several of one model are its seeds.
        baseline: the model that the others are compared with, query by query; None takes the first.
        published: set our scores beside published ones of the same tasks.
        title: of the page.

    Raises:
        DataError: no results, or no such baseline.
    """
    path = Path(path)
    write_text(path, render_page(runs, baseline=baseline, published=published, title=title))
    return path


def render_page(
    runs: Sequence[EvaluationRun],
    *,
    baseline: str | None = None,
    published: bool = False,
    title: str = "Evaluation",
) -> str:
    """The page as text; see ``write_page``."""
    import jinja2

    if not runs:
        raise DataError("there are no results to show")
    models = list(dict.fromkeys(run.model for run in runs))
    first = baseline or models[0]
    folder = files("opengte.evaluation") / "templates"
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        board=build_leaderboard(runs),
        intervals=_intervals(runs),
        baseline=first,
        comparisons=list(compare_models(runs, first).items()),
        published=_published(runs) if published else [],
        data=_data(runs, first),
    )


def _intervals(runs: Sequence[EvaluationRun]) -> list[dict[str, Any]]:
    """One line a result: its score with the interval, and what it cost."""
    return [
        {"model": run.model, "seed": run.seed, "key": key, "result": result}
        for run in runs
        for key, result in run.results.items()
    ]


def _published(runs: Sequence[EvaluationRun]) -> list[tuple[str, list[Comparison]]]:
    rows = []
    for run in runs:
        compared = compare_with_published(run.results.values())
        if compared:
            rows.append((run.model, compared))
    return rows


def _data(runs: Sequence[EvaluationRun], baseline: str) -> str:
    """JSON for the drill-down; ``<`` is written so that no text can end the block."""
    first = {run.model: run for run in reversed(runs)}
    models = [baseline, *(model for model in first if model != baseline)]
    keys = list(dict.fromkeys(key for model in models for key in first[model].results))
    tasks = []
    for key in keys:
        holders = [model for model in models if key in first[model].results]
        task = _task_data(key, holders, [first[model].results[key] for model in holders])
        if task is not None:
            tasks.append(task)
    return json.dumps(tasks, ensure_ascii=True).replace("<", "\\u003c")


def _task_data(
    key: str, models: Sequence[str], results: Sequence[TaskResult]
) -> dict[str, Any] | None:
    metric = results[0].main_metric
    if metric not in results[0].per_query:
        metric = "cosine"
    if not all(metric in result.per_query for result in results):
        return None
    values = [result.per_query[metric] for result in results]
    items = [item for item in values[0] if all(item in column for column in values)]
    items.sort(key=lambda item: -abs(values[-1][item] - values[0][item]))
    rows = []
    for name in items[:_SHOWN_ITEMS]:
        known = [result.items.get(name, Item()) for result in results]
        rows.append(
            {
                "id": name,
                "text": known[0].text,
                "group": known[0].group,
                "values": [round(column[name], 4) for column in values],
                "hits": [[_shown(hit) for hit in item.hits] for item in known],
                "relevant": [_shown(hit) for hit in known[0].relevant],
            }
        )
    return {"key": key, "metric": metric, "models": list(models), "rows": rows}


def _shown(hit: FoundText) -> dict[str, Any]:
    return {"id": hit.id, "score": round(hit.score, 4), "grade": hit.grade, "text": hit.text}
