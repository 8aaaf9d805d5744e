"""``gte mine``: pairs with hard negatives."""

from __future__ import annotations

from pathlib import Path

import click

from opengte.cli.options import backend_option, max_tokens_option, open_model


@click.command("mine")
@click.argument("pairs", type=click.Path(path_type=Path))
@click.option("--model", default=None, help="The teacher; without it BM25.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    default=None,
    help="Where negatives come from; the pairs' own positives by default.",
)
@click.option("--negatives", default=7, show_default=True, type=click.IntRange(min=1))
@click.option("--first-rank", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--last-rank", default=100, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--perc-pos",
    default=0.95,
    show_default=True,
    type=float,
    help="A negative scores below this share of the positive's score; 1 almost allows all.",
)
@click.option("--sampling", type=click.Choice(["top", "random"]), default="top", show_default=True)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--bm25-tokenizer", default="words", show_default=True)
@max_tokens_option
@backend_option
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    pairs: Path,
    model: str | None,
    out: Path,
    corpus: Path | None,
    negatives: int,
    first_rank: int,
    last_rank: int,
    perc_pos: float,
    sampling: str,
    seed: int,
    bm25_tokenizer: str,
    max_tokens: int | None,
    backend: str,
    quiet: bool,
) -> None:
    """Give the PAIRS texts that look like an answer to a teacher and are none."""
    from opengte.data.readers import read_pairs
    from opengte.data.readers.documents import read_documents
    from opengte.mining.bm25_teacher import BM25Teacher
    from opengte.mining.mine import mine_negatives
    from opengte.mining.rules import MiningRules
    from opengte.mining.teachers import EncoderTeacher, Teacher
    from opengte.pipeline.console import Console

    rules = MiningRules(
        num_negatives=negatives,
        first_rank=first_rank,
        last_rank=last_rank,
        perc_pos=perc_pos,
        sampling=sampling,  # type: ignore[arg-type]
        seed=seed,
    )
    teacher: Teacher = BM25Teacher(tokenizer=bm25_tokenizer)
    if model is not None:
        teacher = EncoderTeacher(open_model(model, backend=backend, max_tokens=max_tokens))
    result = mine_negatives(
        list(read_pairs(pairs)),
        None if corpus is None else list(read_documents(corpus)),
        teacher,
        rules,
        folder=out,
        progress=Console(quiet=quiet).progress("mining", unit="texts"),
    )
    for line in result.report.lines():
        click.echo(line)
    click.echo(f"{result.path}")
