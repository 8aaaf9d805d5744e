"""``gte ablate``: which settings of a recipe make a difference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opengte.cli.options import json_option
from opengte.errors import ConfigError

if TYPE_CHECKING:
    from opengte.pipeline.recipe import Recipe


@click.command("ablate")
@click.argument("recipe")
@click.option(
    "--vary",
    "varied",
    multiple=True,
    required=True,
    metavar="KEY=A,B",
    help="A key and its values; the first is the reference. Several --vary make all combinations.",
)
@click.option(
    "--seeds", "num_seeds", default=3, show_default=True, type=click.IntRange(min=2), help="Each."
)
@click.option(
    "--stage", default=None, help="The evaluate stage whose number counts; the last by default."
)
@click.option(
    "--metric",
    default=None,
    metavar="PATH",
    help="The number in its results.json, e.g. systems/dense/mrr@10 (the default), or tasks for "
    "the mean over its tasks.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="A folder; runs/NAME-ablation by default. An unfinished grid in it goes on.",
)
@json_option
@click.option("--quiet", is_flag=True, help="Print no progress of the single runs.")
def command(
    recipe: str,
    varied: tuple[str, ...],
    num_seeds: int,
    stage: str | None,
    metric: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    json_file: Path | None,
    quiet: bool,
) -> None:
    """Run RECIPE with every combination of settings and several seeds.

    First the reference with all its seeds: it says how much the score moves by chance, and what
    difference this grid could show. Stages that are done are kept, so that a grid that was killed
    goes on; the same command again prints the same table.
    """
    from opengte.atomic import write_json
    from opengte.evaluation.ablation import ablation_lines, cell_name
    from opengte.evaluation.ablation_grid import ablation_json, run_grid, score_in, write_ablation
    from opengte.evaluation.results import RESULTS, read_json
    from opengte.pipeline.console import Console
    from opengte.pipeline.execute import execute

    vary = dict(map(parse_varied, varied))
    if len(vary) < len(varied):
        raise click.UsageError("the same key is varied twice; give all its values in one --vary")
    first = load(recipe, overrides, {key: values[0] for key, values in vary.items()}, 0)
    folder = out or Path("runs") / f"{first.name}-ablation"
    stage = evaluate_stage(first, stage)
    metric = metric or default_metric(first, stage)
    for key, values in vary.items():
        for value in values:  # a wrong value is told before hours have passed
            load(recipe, overrides, {key: value}, 0)
    console = Console(quiet=quiet)

    def run_cell(settings: Mapping[str, str], seed: int) -> float:
        name = cell_name(settings, seed)
        cell = load(recipe, overrides, settings, seed)
        output = execute(cell, folder / name, console=console, until=stage)[stage].output
        score = score_in(read_json(output / RESULTS), metric, path=output / RESULTS)
        click.echo(f"{name}: {score:.4f}")
        return score

    found = run_grid(vary, run_cell, num_seeds=num_seeds, metric=metric, tell=click.echo)
    for line in ablation_lines(found.rows, metric=metric.rpartition("/")[2]):
        click.echo(line)
    write_ablation(folder, found)
    if json_file is not None:
        write_json(json_file, ablation_json(found))
    click.echo(f"{folder / 'ablation.svg'}")


def parse_varied(text: str) -> tuple[str, list[str]]:
    """``key.path=a,b`` to the key and its values; commas inside brackets do not part values.

    Raises:
        ConfigError: no key, or no values.
    """
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise ConfigError(f"--vary expects KEY=A,B, got {text!r}")
    parts = re.findall(r"(?:[^,\[{(]|\[[^\]]*\]|\{[^}]*\}|\([^)]*\))+", values)
    return key.strip(), [part.strip() for part in parts]


def load(recipe: str, overrides: tuple[str, ...], settings: Mapping[str, str], seed: int) -> Recipe:
    """The recipe of one cell."""
    from opengte.pipeline.recipe import load_recipe

    own = [f"{key}={value}" for key, value in settings.items()]
    return load_recipe(recipe, overrides=[*overrides, *own], extra={"seed": seed})


def evaluate_stage(recipe: Recipe, name: str | None) -> str:
    """The stage whose result counts.

    Raises:
        ConfigError: no such stage, or none that evaluates.
    """
    stages = [known for known, stage in recipe.stages.items() if stage.kind == "evaluate"]
    if not stages:
        raise ConfigError("the recipe has no evaluate stage, so an ablation has nothing to compare")
    if name is not None and name not in stages:
        raise ConfigError(f"--stage {name!r} is no evaluate stage; there are {', '.join(stages)}")
    return name or stages[-1]


def default_metric(recipe: Recipe, stage: str) -> str:
    """MRR@10 of dense search where the stage measures the corpus, else the mean over its tasks."""
    config = recipe.stages[stage]
    return "systems/dense/mrr@10" if getattr(config, "data", None) else "tasks"
