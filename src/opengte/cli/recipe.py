"""``gte recipe``: list, show, check; the JSON Schema."""

from __future__ import annotations

import json

import click


@click.group("recipe")
def command() -> None:
    """Look at recipes: the YAML files that describe a whole run."""


@command.command("list")
def list_recipes() -> None:
    """Name and description of every recipe that comes with the package."""
    from opengte.pipeline.recipe import bundled_recipes, load_recipe

    for name in bundled_recipes():
        click.echo(f"{name:24} {load_recipe(name).description}")


@command.command("show")
@click.argument("recipe")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key.")
def show(recipe: str, overrides: tuple[str, ...]) -> None:
    """RECIPE with everything it extends and every default written out; checks it on the way."""
    from opengte.pipeline.recipe import load_recipe

    click.echo(load_recipe(recipe, overrides=overrides).to_yaml(), nl=False)


@command.command("schema")
def schema() -> None:
    """The JSON Schema of recipe files, for editors."""
    from opengte.pipeline.recipe_schema import recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=1))
