"""``gte quickstart``: the main job, as an ordinary recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

STAGE_ONE_SHARE = 0.6


@click.command("quickstart")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A repository or folder (Python, Markdown, rst, HTML, text), or a JSONL file of pairs. "
    "May be given several times. Without it: the Python source that is on every machine.",
)
@click.option(
    "--queries",
    type=click.Path(path_type=Path),
    default=None,
    help='Real queries, JSON lines {"query": ..., "paths": [...]}: they become the headline test.',
)
@click.option("--model", default=None, help="Base model: a folder or a hub id.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("quickstart"),
    show_default=True,
    help="Where everything goes. An unfinished run in it goes on.",
)
@click.option("--minutes", type=click.FloatRange(min=1), help="Train as long as fits into this.")
@click.option(
    "--llm",
    "llm_url",
    default=None,
    metavar="URL",
    help="Base URL of a chat endpoint that writes more training queries, e.g. http://host/v1.",
)
@click.option("--llm-model", default=None, metavar="NAME", help="The model's name there.")
@click.option("--llm-key-env", default="", metavar="VAR", help="Environment variable with its key.")
@click.option(
    "--llm-documents",
    default=500,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many training documents it writes queries for.",
)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Of every random choice.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    data: tuple[Path, ...],
    queries: Path | None,
    model: str | None,
    out: Path,
    minutes: float | None,
    llm_url: str | None,
    llm_model: str | None,
    llm_key_env: str,
    llm_documents: int,
    seed: int | None,
    overrides: tuple[str, ...],
    quiet: bool,
) -> None:
    """Turn raw code and docs into a better embedding model, and prove it.

    Reads the files, holds whole packages or folders out, trains all-MiniLM-L6-v2 in two
    contrastive stages, lets dev decide what is kept, and leaves the model, its ONNX export, a
    search index and a report in the folder given with --out.
    """
    from opengte.pipeline.console import Console
    from opengte.pipeline.execute import execute, prepare_process
    from opengte.pipeline.recipe import load_recipe

    prepare_process()
    if (llm_url is None) != (llm_model is None):
        raise click.UsageError("--llm URL and --llm-model NAME belong together")
    extra = _changes(data, queries, model, seed)
    if llm_url is not None and llm_model is not None:
        extra["stages"].update(_with_llm(llm_url, llm_model, llm_key_env, llm_documents))
    recipe = load_recipe("quickstart", overrides=overrides, extra=extra)
    if minutes is not None:
        tokens = _calibrated(recipe, minutes, out)
        recipe = load_recipe("quickstart", overrides=overrides, extra=_with_tokens(extra, tokens))
    execute(recipe, out, console=Console(quiet=quiet))
    click.echo(f"report: {out / 'report.html'}")
    click.echo(f'search: gte search {out / "index"} --model {out / "model"} "your question"')


def _changes(
    data: tuple[Path, ...], queries: Path | None, model: str | None, seed: int | None
) -> dict[str, Any]:
    """What the options change in the recipe."""
    changes: dict[str, Any] = {"stages": {"corpus": {}}}
    if data:
        changes["stages"]["corpus"]["paths"] = [str(path) for path in data]
        names = ", ".join(path.resolve().name for path in data)
        changes["stages"]["report"] = {"corpus_name": names}
    if queries is not None:
        changes["stages"]["corpus"]["queries"] = str(queries)
    if model is not None:
        changes["backbone"] = {"model": model}
    if seed is not None:
        changes["seed"] = seed
    return changes


def _with_llm(url: str, model: str, key_env: str, num_documents: int) -> dict[str, Any]:
    """Training and mining read what the language model wrote beside the corpus's own pairs."""
    endpoint = {"http": {"url": url, "api_key_env": key_env}, "model": model}
    return {
        "synthesize": {
            "kind": "synthesize",
            "pairs": "corpus",
            "keep_pairs": True,
            "synthesis": {"max_documents": num_documents},
            "chat": {"kind": "endpoint", "endpoint": endpoint},
        },
        "pretrain": {"pairs": "synthesize"},
        "mine": {"pairs": "synthesize"},
    }


def _calibrated(recipe: Any, minutes: float, out: Path) -> int:
    from opengte.loading import find_model
    from opengte.pipeline.calibration import token_budget

    return token_budget(
        minutes,
        find_model(recipe.backbone.model),
        out / "calibration.json",
        max_tokens=recipe.backbone.max_tokens,
    )


def _with_tokens(extra: dict[str, Any], tokens: int) -> dict[str, Any]:
    from opengte.pipeline.recipe import merge_values

    first = int(tokens * STAGE_ONE_SHARE)
    budgets = {
        "pretrain": {"max_training_tokens": first},
        "finetune": {"max_training_tokens": tokens - first},
    }
    merged: dict[str, Any] = merge_values(extra, {"stages": budgets})
    return merged
