"""``gte leaderboard``: results of many models as one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from opengte.cli.options import json_option

if TYPE_CHECKING:
    from opengte.evaluation.comparison import TaskComparison
    from opengte.evaluation.results import EvaluationRun


@click.command("leaderboard")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--benchmark", default=None, metavar="NAME", help="Keep only the tasks of this version."
)
@click.option(
    "--published",
    multiple=True,
    metavar="MODEL",
    help="A hub name whose published scores join as a row.",
)
@click.option(
    "--baseline",
    default=None,
    metavar="MODEL",
    help="Set every other model of RESULTS against this one, query by query.",
)
@click.option(
    "--page", type=click.Path(path_type=Path, dir_okay=False), help="Write one HTML page as well."
)
@json_option
def command(
    results: tuple[Path, ...],
    benchmark: str | None,
    published: tuple[str, ...],
    baseline: str | None,
    page: Path | None,
    json_file: Path | None,
) -> None:
    """Rank the models whose RESULTS lie in files or folders of `gte evaluate --out`.

    Several results of one model are its training seeds. Means are over tasks that every model has
    and none was trained on; versions of a benchmark are never mixed.
    """
    from opengte.atomic import write_json
    from opengte.evaluation.comparison import comparisons_json
    from opengte.evaluation.leaderboard import (
        build_leaderboard,
        leaderboard_json,
        leaderboard_lines,
    )
    from opengte.evaluation.results import find_runs

    runs = find_runs(results)
    board = build_leaderboard(runs, benchmark=benchmark, published_models=published)
    for line in leaderboard_lines(board):
        click.echo(line)
    compared = compare_all(runs, baseline) if baseline is not None else {}
    if json_file is not None:
        content = leaderboard_json(board)
        if baseline is not None:
            content["baseline"] = baseline
            content["comparisons"] = {m: comparisons_json(rows) for m, rows in compared.items()}
        write_json(json_file, content)
    if page is not None:
        from opengte.evaluation.page import write_page

        click.echo(f"{write_page(page, runs, baseline=baseline, published=True)}")


def compare_all(runs: list[EvaluationRun], baseline: str) -> dict[str, list[TaskComparison]]:
    """Print each model against the baseline."""
    from opengte.evaluation.comparison import compare_models
    from opengte.evaluation.lines import comparison_lines

    compared = compare_models(runs, baseline)
    for model, rows in compared.items():
        for line in comparison_lines(model, baseline, rows):
            click.echo(line)
    return compared
