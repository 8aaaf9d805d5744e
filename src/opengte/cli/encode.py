"""``gte encode``: texts to vectors on disk; a run that was killed embeds only what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from opengte.cli.options import backend_option, max_tokens_option, open_model


@click.command("encode")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="A folder, an endpoint or a hub id.")
@click.option(
    "--kind",
    type=click.Choice(["query", "document", "plain"]),
    default="document",
    show_default=True,
    help="Which of the model's own prompts stands in front.",
)
@click.option("--dimensions", type=click.IntRange(min=1), help="Cut vectors (Matryoshka).")
@click.option("--shard", default="0/1", metavar="I/N", help="Embed only part I of N, from 0.")
@click.option("--rows-per-shard", type=click.IntRange(min=1), default=16_384, show_default=True)
@max_tokens_option
@backend_option
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    source: Path,
    target: Path,
    model: str,
    kind: str,
    dimensions: int | None,
    shard: str,
    rows_per_shard: int,
    max_tokens: int | None,
    backend: str,
    quiet: bool,
) -> None:
    """Embed the documents of IN into the folder OUT.

    IN is a corpus in JSON lines, a BEIR folder, or files and folders of source and text; a .txt
    file given directly is one text a line. OUT gets shards of float32 (.npy), ids.txt and
    manifest.json, which names the embedding space.
    """
    from opengte.atomic import atomic_file, write_json
    from opengte.pipeline.console import Console
    from opengte.records import Kind
    from opengte.search.embedding_shards import embed_to_shards

    part, parts = _parse_shard(shard)
    console = Console(quiet=quiet)
    encoder = open_model(model, backend=backend, max_tokens=max_tokens)
    side: Kind | None = {"query": "query", "document": "document"}.get(kind)  # type: ignore[assignment]
    name = "" if parts == 1 else f"-{part}-of-{parts}"
    num_rows = 0
    with atomic_file(target / f"ids{name}.txt", mode="w") as ids:

        def texts() -> Iterator[str]:
            nonlocal num_rows
            for identity, text in itertools.islice(_read(source), part, None, parts):
                ids.write(identity.replace("\n", " ") + "\n")
                num_rows += 1
                yield text

        shards = embed_to_shards(
            encoder,
            texts(),
            target,
            kind=side,
            dimensions=dimensions,
            rows_per_shard=rows_per_shard,
            progress=console.progress("embedding", unit="texts"),
        )
    manifest = {
        "space": {**asdict(encoder.space), "fingerprint": encoder.space.fingerprint},
        "kind": kind,
        "dimensions": dimensions or encoder.space.dimensions,
        "num_rows": num_rows,
        "shards": [path.name for path in shards],
    }
    write_json(target / f"manifest{name}.json", manifest)
    click.echo(f"{num_rows:,} vectors in {target}")


def _read(source: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of every document; the lines of a plain text file given directly."""
    from opengte.data.readers.documents import read_documents
    from opengte.data.readers.lines import decode_line, read_lines
    from opengte.errors import DataError

    if source.is_file() and source.suffix == ".txt":
        for number, line in read_lines(source):
            try:
                text = decode_line(line).strip()
            except ValueError as error:
                raise DataError(str(error), path=source, line=number) from error
            if text:
                yield str(number), text
        return
    for document in read_documents(source):
        yield document.id, document.full_text


def _parse_shard(shard: str) -> tuple[int, int]:
    part, slash, parts = shard.partition("/")
    if not (slash and part.isdigit() and parts.isdigit() and int(part) < int(parts)):
        raise click.UsageError(f"--shard expects I/N with 0 <= I < N, got {shard!r}")
    return int(part), int(parts)
