"""``gte run``: a recipe, stage by stage, into a run folder."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("run")
@click.argument("recipe")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="The run folder; runs/NAME by default. An unfinished run in it goes on.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key.")
@click.option("--until", default=None, metavar="STAGE", help="Stop after this stage.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    recipe: str, out: Path | None, overrides: tuple[str, ...], until: str | None, quiet: bool
) -> None:
    """Run RECIPE, a bundled recipe's name or a YAML file.

    Stages whose settings and inputs have not changed are kept. A run that was killed goes on
    where it was, and ends with the same result.
    """
    from opengte.pipeline.console import Console
    from opengte.pipeline.execute import execute
    from opengte.pipeline.recipe import load_recipe

    loaded = load_recipe(recipe, overrides=overrides)
    folder = out or Path("runs") / loaded.name
    execute(loaded, folder, console=Console(quiet=quiet), until=until)
    click.echo(f"{folder}")
