"""``gte index``: documents to a folder that can be searched."""

from __future__ import annotations

from pathlib import Path

import click

from opengte.cli.options import backend_option, max_tokens_option, open_model


@click.command("index")
@click.argument("documents", type=click.Path(path_type=Path))
@click.option("--model", default=None, help="Embeds the documents; without it BM25 alone.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The index folder.")
@click.option(
    "--tokenizer",
    default="words",
    show_default=True,
    help="Of BM25: words, words:LANGUAGE, code or chinese.",
)
@max_tokens_option
@backend_option
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    documents: Path,
    model: str | None,
    out: Path,
    tokenizer: str,
    max_tokens: int | None,
    backend: str,
    quiet: bool,
) -> None:
    """Index DOCUMENTS: a corpus in JSON lines, a BEIR folder, or a folder of source and text."""
    from opengte.data.readers.documents import read_documents
    from opengte.pipeline.console import Console
    from opengte.search.searcher import Searcher

    console = Console(quiet=quiet)
    encoder = None if model is None else open_model(model, backend=backend, max_tokens=max_tokens)
    searcher = Searcher.build(
        read_documents(documents),
        out,
        encoder=encoder,
        tokenizer=tokenizer,
        progress=console.progress("indexing", unit="documents"),
    )
    click.echo(f"{len(searcher):,} documents in {out}")
