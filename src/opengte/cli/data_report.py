"""``gte data report``: what training on a store would mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from opengte.cli.options import json_option, write_numbers


@click.command("report")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--evaluation",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="SET",
    help="Judge this evaluation set: zero-shot, in-domain train or leaked; may be given again.",
)
@click.option("--alpha", type=float, default=0.5, show_default=True, help="Of p_i ~ n_i^alpha.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16_384, show_default=True)
@click.option(
    "--mode",
    type=click.Choice(["one_source", "one_task", "mixed"]),
    default="one_source",
    show_default=True,
    help="What one batch holds.",
)
@click.option("--max-share", type=float, help="Share that a source may have at most.")
@click.option("--merge-below", type=click.IntRange(min=0), default=0, help="Join small sources.")
@click.option("--steps", type=click.IntRange(min=1), help="Planned; about one epoch by default.")
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    help="A model's folder, to count tokens as it does; else they are estimated.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    help="Where training cuts a text.",
)
@click.option("--seed", default=0, show_default=True, help="Of the mixture and the samples.")
@click.option("--page", type=click.Path(path_type=Path), help="Write one HTML page here.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
@json_option
def report(
    store: Path,
    evaluation: tuple[Path, ...],
    steps: int | None,
    tokenizer: Path | None,
    max_tokens: int,
    page: Path | None,
    quiet: bool,
    json_file: Path | None,
    **mixture: Any,
) -> None:
    """What training on STORE would mean: its mixture, its faults, what leaked into it."""
    from opengte.data.evaluation_sets import read_evaluation_set
    from opengte.data.mixture import MixtureConfig
    from opengte.data.report import make_report
    from opengte.data.report_page import print_report, write_page
    from opengte.data.store import PairStore
    from opengte.pipeline.console import Console

    found = make_report(
        PairStore(store).sources(),
        MixtureConfig(**mixture),
        num_steps=steps,
        evaluation=[read_evaluation_set(path) for path in evaluation],
        count_tokens=None if tokenizer is None else _token_counter(tokenizer),
        max_tokens=max_tokens,
        progress=Console(quiet=quiet).progress("comparing with evaluation sets", unit="pairs"),
    )
    print_report(found)
    if page is not None:
        write_page(found, page)
        click.echo(f"the whole report: {page}")
    write_numbers(json_file, found.to_json())


def _token_counter(folder: Path) -> Any:
    from opengte.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_folder(folder)

    def count(texts: Sequence[str]) -> list[int]:
        return [len(text.ids) for text in tokenizer.encode(texts, max_tokens=1 << 30)]

    return count
