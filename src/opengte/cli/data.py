"""``gte data``: pair stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opengte.cli.data_filters import ChosenFilters, filter_options, tell_filtered
from opengte.cli.data_report import report
from opengte.cli.options import json_option, write_numbers

if TYPE_CHECKING:
    from opengte.data.build import BuildResult

SHOWN_CHARACTERS = 160


@click.group("data")
def command() -> None:
    """Pair files to stores: memory-mapped, described, verified."""


command.add_command(report)


def _columns(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, str] | None:
    names = [each.partition("=") for each in given]
    if not all(name and field for name, _, field in names):
        raise click.BadParameter("give NAME=FIELD, such as query=question")
    return {name: field for name, _, field in names} or None


def build_options(function: Any) -> Any:
    """Options that building and appending share."""
    for option in (
        click.option("--workers", type=click.IntRange(min=1), help="Processes; one a core."),
        click.option(
            "--on-bad-row",
            type=click.Choice(["error", "skip"]),
            default="error",
            show_default=True,
            help="Stop at a bad row, or count it and keep it in quarantine.",
        ),
        click.option("--format", "kind", default="auto", show_default=True, help="Of every file."),
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="NAME=FIELD",
            callback=_columns,
            help="Where no known layout fits: query=question, positive=answer, ...",
        ),
        click.option("--quiet", is_flag=True, help="Print no progress."),
        json_option,
    ):
        function = option(function)
    return function


@command.command("build")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store to be.")
@build_options
@filter_options
def build(
    paths: tuple[Path, ...],
    out: Path,
    workers: int | None,
    on_bad_row: str,
    kind: str,
    columns: dict[str, str] | None,
    quiet: bool,
    json_file: Path | None,
    filters: ChosenFilters,
) -> None:
    """Build a store of PATHS; a file is a source, named by its file.

    Without filter options every valid row is kept.
    """
    from opengte.data.build import build_store
    from opengte.data.filtered_build import build_filtered_store
    from opengte.pipeline.console import Console

    console = Console(quiet=quiet)
    options: dict[str, Any] = {
        "num_workers": workers,
        "on_bad_row": on_bad_row,
        "format": kind,
        "columns": columns,
        "progress": console.progress("building", unit="bytes"),
    }
    if not filters:
        _tell(build_store(paths, out, **options), json_file)
        return
    found = build_filtered_store(
        paths,
        out,
        filters.config(),
        evaluation=filters.evaluation(),
        filter_progress=console.progress("filtering", unit="pairs"),
        **options,
    )
    tell_filtered(found.filtered)
    _tell(found.built, json_file, filtered=found.filtered.summary())


@command.command("filter")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store to be.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
@json_option
@filter_options
def filter_command(
    store: Path, out: Path, quiet: bool, json_file: Path | None, filters: ChosenFilters
) -> None:
    """Write what filters leave of STORE as a new store."""
    from opengte.data.filters.stores import filter_store
    from opengte.errors import ConfigError
    from opengte.pipeline.console import Console

    if not filters:
        raise ConfigError("no filter was given; `gte data filter --help` lists them")
    report = filter_store(
        store,
        out,
        filters.config(),
        evaluation=filters.evaluation(),
        progress=Console(quiet=quiet).progress("filtering", unit="pairs"),
    )
    tell_filtered(report)
    write_numbers(json_file, report.summary())


@command.command("append")
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@build_options
def append(
    store: Path,
    paths: tuple[Path, ...],
    workers: int | None,
    on_bad_row: str,
    kind: str,
    columns: dict[str, str] | None,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Add PATHS to STORE, each as a new source."""
    from opengte.data.build import append_to_store
    from opengte.pipeline.console import Console

    progress = Console(quiet=quiet).progress("appending", unit="bytes")
    result = append_to_store(
        store,
        paths,
        num_workers=workers,
        on_bad_row=on_bad_row,  # type: ignore[arg-type]
        format=kind,
        columns=columns,
        progress=progress,
    )
    _tell(result, json_file)


@command.command("head")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("-n", "number", default=3, show_default=True, type=click.IntRange(min=1, max=1000))
@click.option("--source", default=None, help="Only this source.")
def head(store: Path, number: int, source: str | None) -> None:
    """The first pairs of every source."""
    from opengte.data.store import PairStore

    for name, pairs in PairStore(store).head(number, source=source).items():
        click.echo(name)
        for pair in pairs:
            click.echo(f"  ? {pair.query[:SHOWN_CHARACTERS]!r}")
            click.echo(f"  = {pair.positive[:SHOWN_CHARACTERS]!r}")


@command.command("stats")
@click.argument("store", type=click.Path(path_type=Path))
@json_option
def stats(store: Path, json_file: Path | None) -> None:
    """Counts and lengths of every source."""
    from opengte.data.store import PairStore

    found = PairStore(store).stats()
    for name, row in found["sources"].items():
        click.echo(f"{row['num_pairs']:>12,}  {name}")
    click.echo(f"{found['num_pairs']:>12,}  pairs of {len(found['sources'])} sources")
    write_numbers(json_file, found)


@command.command("verify")
@click.argument("store", type=click.Path(path_type=Path))
def verify(store: Path) -> None:
    """Read everything and compare it with the manifest."""
    from opengte.data.store import verify_store

    click.echo(f"{verify_store(store):,} bytes as they were written")


@command.command("export")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option(
    "--suffix",
    type=click.Choice([".jsonl", ".jsonl.gz", ".jsonl.zst"]),
    default=".jsonl.zst",
    show_default=True,
)
def export(store: Path, out: Path, suffix: str) -> None:
    """Write every source as a JSONL file; building on them gives the same pairs again."""
    from opengte.data.store import export_store

    for name, number in export_store(store, out, suffix=suffix).items():
        click.echo(f"{number:>12,}  {out / (name + suffix)}")


def _tell(result: BuildResult, json_file: Path | None, **more: Any) -> None:
    for reason, number in result.report.skipped.most_common():
        click.echo(f"{number:>12,}  skipped: {reason}", err=True)
    click.echo(f"{result.num_pairs:,} pairs of {result.num_sources} sources in {result.store}")
    if result.quarantine is not None:
        click.echo(f"skipped rows are kept in {result.quarantine}", err=True)
    from opengte.data.store import PairStore

    write_numbers(json_file, {**PairStore(result.store).stats(), **more})
