"""``gte plan``: what a recipe will take, before it is run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from opengte.cli.options import json_option


@click.command("plan")
@click.argument("recipe")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="The run folder; figures are read off what has run there already.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key.")
@json_option
def command(
    recipe: str, out: Path | None, overrides: tuple[str, ...], json_file: Path | None
) -> None:
    """Forecast the stages of RECIPE.

    A recipe that states its backbone's shape is planned from what it says alone: steps, tokens
    and memory per GPU, without model or data. Any other is measured on this machine.
    """
    from opengte.pipeline.recipe import load_recipe

    loaded = load_recipe(recipe, overrides=overrides)
    if loaded.backbone.shape:
        _show_plan(loaded, json_file)
    else:
        _show_forecast(loaded, out, json_file)


def _show_plan(loaded: Any, json_file: Path | None) -> None:
    from opengte.atomic import write_json
    from opengte.pipeline.plan import make_plan

    plan = make_plan(loaded)
    click.echo(f"{plan.recipe}: {plan.num_parameters / 1e6:,.1f} M parameters")
    if plan.reference:
        click.echo(plan.reference)
    click.echo(
        f"{'stage':16} {'kind':14} {'rows':>13} {'batch':>7} {'steps':>8} {'tokens <=':>18} "
        f"{'input':>6} {'GPUs':>5} {'memory each':>12}"
    )
    for row in plan.stages:
        numbers = [_number(row.num_rows), _number(row.batch_size), _number(row.num_steps)]
        memory = "-" if row.memory_gib is None else f"{row.memory_gib:.1f} GiB"
        click.echo(
            f"{row.name:16} {row.kind:14} {numbers[0]:>13} {numbers[1]:>7} {numbers[2]:>8} "
            f"{_number(row.max_tokens):>18} {_number(row.max_input):>6} "
            f"{_number(row.num_gpus):>5} {memory:>12}" + (f"  {row.note}" if row.note else "")
        )
    if json_file is not None:
        write_json(json_file, plan.as_json())


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _show_forecast(loaded: Any, out: Path | None, json_file: Path | None) -> None:
    from opengte.atomic import write_json
    from opengte.loading import find_model
    from opengte.pipeline.console import format_seconds
    from opengte.pipeline.execute import prepare_process
    from opengte.pipeline.forecast import forecast

    prepare_process()
    found = forecast(loaded, find_model(loaded.backbone.model), out or Path("runs") / loaded.name)
    click.echo(f"{'stage':14} {'kind':12} {'steps':>8} {'tokens':>13} {'memory':>10} {'time':>14}")
    for row in found:
        steps = f"{row.num_steps:,}" if row.num_steps is not None else "-"
        tokens = f"{row.num_tokens:,}" if row.num_tokens is not None else "-"
        memory = f"{row.memory_mib:,.0f} MiB" if row.memory_mib is not None else "-"
        seconds = format_seconds(row.seconds) if row.seconds is not None else "-"
        click.echo(
            f"{row.name:14} {row.kind:12} {steps:>8} {tokens:>13} {memory:>10} {seconds:>14}"
        )
    total = sum(row.seconds or 0 for row in found)
    click.echo(f"training and evaluation together: about {format_seconds(total)}")
    for note in sorted({row.note for row in found if row.note}):
        click.echo(f"({note})")
    if json_file is not None:
        write_json(json_file, {"stages": [asdict(row) for row in found]})
