"""``gte evaluate``: a model on evaluation sets."""

from __future__ import annotations

from pathlib import Path

import click

from opengte.cli.options import backend_option, json_option, max_tokens_option, open_model


@click.command("evaluate")
@click.argument("model")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A BEIR folder, a folder of SPLIT.jsonl, a folder of XXX-eng.tsv.gz, or one file.",
)
@click.option(
    "--retriever",
    "retrievers",
    multiple=True,
    type=click.Choice(["dense", "bm25", "hybrid"]),
    help="For retrieval tasks; dense by default.",
)
@click.option("--split", default=None, help="Which split; test, else dev.")
@click.option("--type", "kind", default=None, help="Which kind of task, where a file allows two.")
@max_tokens_option
@backend_option
@json_option
@click.option("--out", type=click.Path(path_type=Path), help="A folder for values per query too.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    model: str,
    tasks: tuple[Path, ...],
    retrievers: tuple[str, ...],
    split: str | None,
    kind: str | None,
    max_tokens: int | None,
    backend: str,
    json_file: Path | None,
    out: Path | None,
    quiet: bool,
) -> None:
    """Measure MODEL, with 95 % intervals.

    MODEL is a folder (sentence-transformers layout or exported), an endpoint or a hub id. Each
    task is measured by the protocol of its kind; scores are fractions.
    """
    from opengte.evaluation.embedding_cache import EmbeddingCache
    from opengte.evaluation.evaluate import evaluate
    from opengte.evaluation.load_task import load_task
    from opengte.evaluation.results import write_results
    from opengte.pipeline.console import Console

    if not tasks:
        raise click.UsageError("give at least one --task PATH")
    loaded = [load_task(path, split=split, type=kind) for path in tasks]
    console = Console(quiet=quiet)
    encoder = open_model(model, backend=backend, max_tokens=max_tokens)
    cache = EmbeddingCache()
    results = []
    for task in loaded:
        progress = console.progress(f"embedding {task.name}", unit="texts")
        found = evaluate(
            encoder, task, retrievers=retrievers or ("dense",), cache=cache, progress=progress
        )
        for result in found.by_retriever.values() if retrievers else [found]:
            results.append(result)
            low, high = result.ci95
            click.echo(
                f"{result.key:32} {result.main_metric:22} {result.main_score:.4f} "
                f"[{low:.4f}, {high:.4f}]"
            )
    for target in (json_file, out):
        if target is not None:
            write_results(target, model, results)
