"""``gte search``: ask an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from opengte.cli.options import backend_option, json_option, open_model

if TYPE_CHECKING:
    from opengte.contracts import TextEncoder

SHOWN_LINES = 3
NEIGHBOURS = ("onnx", "model")


@click.command("search")
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("query")
@click.option("-k", default=5, show_default=True, type=click.IntRange(min=1, max=1000))
@click.option(
    "--model",
    default=None,
    help="The model the index was made with; onnx/ or model/ beside the index by default.",
)
@click.option(
    "--mode", type=click.Choice(["dense", "bm25", "hybrid"]), default=None, help="How to search."
)
@backend_option
@json_option
def command(
    index: Path,
    query: str,
    k: int,
    model: str | None,
    mode: str | None,
    backend: str,
    json_file: Path | None,
) -> None:
    """The K documents of INDEX that answer QUERY best."""
    from opengte.atomic import write_json
    from opengte.search.searcher import Searcher

    encoder = None if mode == "bm25" else _encoder(index, model, backend)
    default = "dense" if encoder is not None else "bm25"
    searcher = Searcher.open(index, encoder=encoder, mode=mode or default)  # type: ignore[arg-type]
    (hits,) = searcher.search([query], k)
    for hit in hits:
        click.echo(f"{hit.rank:3}  {hit.score:.4f}  {hit.document.origin or hit.document.id}")
        for line in hit.document.full_text.splitlines()[:SHOWN_LINES]:
            click.echo(f"             {line[:100]}")
    if json_file is not None:
        rows = [
            {"id": hit.id, "score": hit.score, "rank": hit.rank, "text": hit.document.full_text}
            for hit in hits
        ]
        write_json(json_file, {"query": query, "hits": rows})


def _encoder(index: Path, model: str | None, backend: str) -> TextEncoder | None:
    """The named model, or the one that a run left beside its index; None where there is none."""
    if model is not None:
        return open_model(model, backend=backend, max_tokens=None)
    for name in NEIGHBOURS:
        folder = index.resolve().parent / name
        if folder.is_dir():
            return open_model(str(folder), backend=backend, max_tokens=None)
    return None
