"""``gte mine``: pairs with hard negatives."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opengte.cli.options import (
    backend_option,
    json_option,
    max_tokens_option,
    open_model,
    write_numbers,
)

if TYPE_CHECKING:
    from opengte.mining.cores import MiningInputs
    from opengte.mining.rules import MiningRules
    from opengte.mining.teachers import Teacher


def rule_options(function: Any) -> Any:
    """One option for each field of ``MiningRules``."""
    for option in (
        click.option("--negatives", default=7, show_default=True, type=click.IntRange(min=1)),
        click.option("--first-rank", default=1, show_default=True, type=click.IntRange(min=1)),
        click.option("--last-rank", default=100, show_default=True, type=click.IntRange(min=1)),
        click.option(
            "--perc-pos",
            default=0.95,
            show_default=True,
            type=float,
            help="A negative scores below this share of the positive's score; 0 = off.",
        ),
        click.option("--margin", type=float, help="It stays this far below the positive's score."),
        click.option("--max-score", type=float, help="It scores at most this."),
        click.option("--min-score", type=float, help="It scores at least this."),
        click.option(
            "--near-duplicate",
            default=0.8,
            show_default=True,
            type=click.FloatRange(0, 1),
            help="Refuse texts that share so much of their words with a positive; 0 = off.",
        ),
        click.option(
            "--keep-answers", is_flag=True, help="Allow texts that contain the whole positive."
        ),
        click.option("--same-source/--not-same-source", default=True, help="Same file allowed?"),
        click.option("--same-group/--not-same-group", default=True, help="Same group allowed?"),
        click.option(
            "--sampling", type=click.Choice(["top", "random"]), default="top", show_default=True
        ),
        click.option("--top-k", type=click.IntRange(min=1), help="Draw among so many best."),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0)),
    ):
        function = option(function)
    return function


@click.command("mine")
@click.argument("pairs", type=click.Path(path_type=Path))
@click.option(
    "--model", default=None, help="The teacher: a folder, an endpoint, a hub id; else BM25."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    default=None,
    help="Where negatives come from; the pairs' own positives by default.",
)
@click.option(
    "--bm25-weight",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of BM25 in the score, beside --model.",
)
@click.option("--bm25-tokenizer", default="words", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Keeps embedded corpora for others.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1))
@rule_options
@max_tokens_option
@backend_option
@json_option
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    pairs: Path,
    model: str | None,
    out: Path,
    corpus: Path | None,
    bm25_weight: float,
    bm25_tokenizer: str,
    cache: Path | None,
    processes: int,
    max_tokens: int | None,
    backend: str,
    json_file: Path | None,
    quiet: bool,
    **rules: Any,
) -> None:
    """Give the PAIRS texts that look like an answer to a teacher and are none.

    A run that was stopped goes on; started several times on one --out, the runs share the work.
    """
    from opengte.mining.cores import mine_on_cores

    if bm25_weight and model is None:
        raise click.UsageError("--bm25-weight needs --model beside it; without --model all is BM25")
    teacher = partial(
        open_teacher, model, bm25_weight, bm25_tokenizer, backend=backend, max_tokens=max_tokens
    )
    inputs = partial(make_inputs, pairs, corpus, teacher, make_rules(**rules), cache, quiet)
    result = mine_on_cores(inputs, folder=out, num_processes=processes)
    for line in result.report.lines():
        click.echo(line)
    write_numbers(json_file, result.report.as_json())
    click.echo(f"{result.path}")


def make_rules(
    *,
    negatives: int,
    perc_pos: float,
    margin: float | None,
    near_duplicate: float,
    keep_answers: bool,
    same_source: bool,
    same_group: bool,
    **same: Any,
) -> MiningRules:
    """The options as rules."""
    from opengte.mining.rules import MiningRules

    return MiningRules(
        num_negatives=negatives,
        perc_pos=perc_pos or None,
        absolute_margin=margin,
        near_duplicate=near_duplicate or None,
        exclude_answers=not keep_answers,
        exclude_same_source=not same_source,
        exclude_same_group=not same_group,
        **same,
    )


def make_inputs(
    pairs: Path,
    corpus: Path | None,
    teacher: partial[Teacher],
    rules: MiningRules,
    cache: Path | None,
    quiet: bool,
) -> MiningInputs:
    """What one process mines; every process reads and opens its own."""
    from opengte.data.readers import read_pairs
    from opengte.data.readers.documents import read_documents
    from opengte.mining.cores import MiningInputs
    from opengte.pipeline.console import Console

    return MiningInputs(
        list(read_pairs(pairs)),
        None if corpus is None else list(read_documents(corpus)),
        teacher(),
        rules,
        {
            "cache_folder": cache,
            "progress": Console(quiet=quiet).progress("mining", unit="texts"),
        },
    )


def open_teacher(
    model: str | None, bm25_weight: float, tokenizer: str, *, backend: str, max_tokens: int | None
) -> Teacher:
    """BM25, a model, or both."""
    from opengte.mining.bm25_teacher import BM25Teacher
    from opengte.mining.teachers import EncoderTeacher, WeightedTeacher

    words = BM25Teacher(tokenizer=tokenizer)
    if model is None:
        return words
    encoder = EncoderTeacher(open_model(model, backend=backend, max_tokens=max_tokens))
    if bm25_weight == 0:
        return encoder
    return WeightedTeacher((encoder, words), (1 - bm25_weight, bm25_weight))
