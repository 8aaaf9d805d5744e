"""``gte evaluate``: a model on evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opengte.cli.options import backend_option, json_option, max_tokens_option, open_model

if TYPE_CHECKING:
    from opengte.contracts import TextEncoder
    from opengte.evaluation.published_scores import Comparison
    from opengte.evaluation.results import EvaluationRun, TaskResult
    from opengte.evaluation.tasks import Task
    from opengte.evaluation.training_manifest import TrainingManifest
    from opengte.pipeline.console import Console


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
    "--benchmark",
    default=None,
    metavar="NAME",
    help="E.g. 'MTEB(eng, v2)': what the --task sets are part of; without --task its own sets are "
    "fetched from the hub and run by mteb.",
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
@click.option("--compare", is_flag=True, help="Set the scores beside published ones.")
@click.option(
    "--trained-on",
    "trained_on",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Pairs or a pair store that the model was trained on: marks what is not zero-shot.",
)
@click.option("--name", default=None, help="What results call the model; MODEL by default.")
@click.option("--seed", default=None, type=click.IntRange(min=0), help="Of the model's training.")
@click.option("--dimensions", default=None, type=click.IntRange(min=1), help="Cut vectors to N.")
@max_tokens_option
@backend_option
@json_option
@click.option("--out", type=click.Path(path_type=Path), help="A folder for values per query too.")
@click.option(
    "--page", type=click.Path(path_type=Path, dir_okay=False), help="Write one HTML page as well."
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="A folder that keeps vectors between runs."
)
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    model: str,
    tasks: tuple[Path, ...],
    benchmark: str | None,
    retrievers: tuple[str, ...],
    split: str | None,
    kind: str | None,
    compare: bool,
    trained_on: tuple[Path, ...],
    name: str | None,
    seed: int | None,
    dimensions: int | None,
    max_tokens: int | None,
    backend: str,
    json_file: Path | None,
    out: Path | None,
    page: Path | None,
    cache: Path | None,
    quiet: bool,
) -> None:
    """Measure MODEL, with 95 % intervals.

    MODEL is a folder (sentence-transformers layout or exported), an endpoint or a hub id. Each
    task is measured by the protocol of its kind; scores are fractions.
    """
    from opengte.evaluation.lines import summary_lines
    from opengte.evaluation.load_task import load_task
    from opengte.evaluation.mteb_files import write_mteb_files
    from opengte.evaluation.published_scores import benchmark_tasks
    from opengte.evaluation.results import EvaluationRun, write_results
    from opengte.pipeline.console import Console

    if not tasks and benchmark is None:
        raise click.UsageError("give at least one --task PATH, or --benchmark NAME")
    if not tasks and out is None:
        raise click.UsageError("--benchmark without --task needs --out, where mteb keeps its files")
    if benchmark is not None:
        benchmark_tasks(benchmark)  # an unknown name is told before anything is computed
    loaded = [load_task(path, split=split, type=kind) for path in tasks]
    manifest = read_manifest(model, trained_on)
    encoder = open_model(model, backend=backend, max_tokens=max_tokens)
    if loaded:
        console = Console(quiet=quiet)
        results = measure(encoder, loaded, retrievers, manifest, dimensions, cache, console)
    else:
        assert benchmark is not None
        assert out is not None
        results = fetch_and_measure(encoder, benchmark, manifest, out / "mteb")
    unknown = () if manifest is None else manifest.unknown
    for line in summary_lines(results, benchmark=benchmark or "", unknown_starts=unknown):
        click.echo(line)
    run = EvaluationRun(
        model=name or model,
        results={result.key: result for result in results},
        seed=seed,
        benchmark=benchmark or "",
        unknown_starts=unknown,
    )
    published = tell_published(results, name or encoder.space.model) if compare else None
    if json_file is not None:
        write_json_file(json_file, run, published)
    if out is not None:
        write_results(
            *(out, run.model, results),
            seed=seed,
            benchmark=run.benchmark,
            unknown_starts=unknown,
        )
        if loaded:
            write_mteb_files(out / "mteb", encoder.space, results)
    if page is not None:
        from opengte.evaluation.page import write_page

        click.echo(
            f"{write_page(page, [run], published=compare, title=f'{run.model}: evaluation')}"
        )


def read_manifest(model: str, trained_on: Sequence[Path]) -> TrainingManifest | None:
    """What the model was trained on: as given, else as its own folder says; None if neither."""
    from opengte.evaluation.training_manifest import TRAINING_MANIFEST, TrainingManifest

    if not trained_on:
        own = Path(model) / TRAINING_MANIFEST
        return TrainingManifest.load(model) if own.is_file() else None
    return TrainingManifest.union([manifest_of(path) for path in trained_on])


def manifest_of(path: Path) -> TrainingManifest:
    """The manifest of a pair store, a file of pairs, or a folder that holds one already."""
    from opengte.data.manifest import MANIFEST
    from opengte.data.readers import read_pairs
    from opengte.data.store import PairStore
    from opengte.evaluation.training_manifest import (
        TRAINING_MANIFEST,
        TrainingManifest,
        dataset_name,
    )

    if (path / TRAINING_MANIFEST).is_file():
        return TrainingManifest.load(path)
    if (path / MANIFEST).is_file():
        store = PairStore(path)
        pairs = (pair for name in store.names for pair in store.pairs(name))
        return TrainingManifest.from_pairs(pairs, datasets=store.names)
    return TrainingManifest.from_pairs(read_pairs(path), datasets=[dataset_name(path)])


def measure(
    encoder: TextEncoder,
    tasks: Sequence[Task],
    retrievers: Sequence[str],
    manifest: TrainingManifest | None,
    dimensions: int | None,
    cache: Path | None,
    console: Console,
) -> list[TaskResult]:
    """Measure local sets one after the other, and tell each result when it is there."""
    from dataclasses import replace

    from opengte.evaluation.embedding_cache import EmbeddingCache
    from opengte.evaluation.evaluate import EvaluationConfig, evaluate
    from opengte.evaluation.lines import result_line
    from opengte.evaluation.marks import mark_task

    held, results = EmbeddingCache(cache), []
    for task in tasks:
        mark = "" if manifest is None else mark_task(task, manifest)[0]
        found = evaluate(
            encoder,
            task,
            retrievers=retrievers or None,
            config=EvaluationConfig(dimensions=dimensions),
            cache=held,
            progress=console.progress(f"embedding {task.name}", unit="texts"),
        )
        by_retriever = found.by_retriever.values() if retrievers else ()
        for result in by_retriever or [found]:
            results.append(replace(result, mark=mark))
            click.echo(result_line(results[-1]))
    return results


def fetch_and_measure(
    encoder: TextEncoder, benchmark: str, manifest: TrainingManifest | None, folder: Path
) -> list[TaskResult]:
    """Run mteb's own sets, where its hub can be reached."""
    from opengte.evaluation.lines import result_line
    from opengte.evaluation.mteb_adapter import MtebEncoder, run_benchmark

    datasets = None if manifest is None else manifest.datasets
    adapted = MtebEncoder(encoder, training_datasets=datasets)
    results = run_benchmark(adapted, benchmark, folder=folder)
    for result in results:
        click.echo(result_line(result))
    return results


def tell_published(results: Sequence[TaskResult], model: str) -> list[Comparison]:
    """Print published scores beside ours."""
    from opengte.evaluation.lines import published_lines
    from opengte.evaluation.published_scores import compare_with_published

    compared = compare_with_published(results)
    if not compared:
        click.echo("no published score fits: other names, splits or numbers of items")
    for line in published_lines(compared, model=model):
        click.echo(line)
    return compared


def write_json_file(path: Path, run: EvaluationRun, published: list[Comparison] | None) -> None:
    """The numbers, and the published ones where they were asked for."""
    from opengte.atomic import write_json
    from opengte.evaluation.results import results_json

    content = results_json(
        run.model,
        run.results.values(),
        seed=run.seed,
        benchmark=run.benchmark,
        unknown_starts=run.unknown_starts,
    )
    if published is not None:
        content["published"] = [
            {
                "task": row.key,
                "metric": row.metric,
                "model": row.published.model,
                "benchmark": row.published.benchmark,
                "score": row.published.score,
                "difference": round(row.difference, 6),
            }
            for row in published
        ]
    write_json(path, content)
