"""``gte plan``: what a recipe will take, before it is run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

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
    """Forecast the stages of RECIPE: steps, tokens, peak memory and time on this machine."""
    from opengte.atomic import write_json
    from opengte.loading import find_model
    from opengte.pipeline.console import format_seconds
    from opengte.pipeline.execute import prepare_process
    from opengte.pipeline.forecast import forecast
    from opengte.pipeline.recipe import load_recipe

    prepare_process()
    loaded = load_recipe(recipe, overrides=overrides)
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
