"""Pair files -> a pair store: in parallel, resumable after any kill, whole or not at all.

Everything is written into a folder beside the store to be; after each shard a small file says
how far its source has come (``source_build``), and the same command goes on from there. Only
when all sources are done does the folder take the store's name.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opengte.atomic import fsync_folder, storage_errors
from opengte.contracts import Progress
from opengte.data.manifest import MANIFEST, Manifest, SourceEntry, SourceFacts
from opengte.data.readers.bad_rows import OnBadRow
from opengte.data.readers.report import ReadReport
from opengte.data.shards import MAX_SHARD_BYTES
from opengte.data.source_build import (
    PARTS,
    QUARANTINE,
    Progressed,
    SourceBuild,
    build_source,
    name_of_source,
)
from opengte.data.store import PairStore
from opengte.errors import ConfigError, DataError, StorageError, UserError

_LOCK = "lock"


@dataclass(frozen=True)
class BuildResult:
    """What a build did.

    Attributes:
        store: folder of the store.
        num_pairs, num_sources: what the store holds now.
        report: what was read and what was skipped, by reason.
        quarantine: folder with the skipped rows, if there are any.
    """

    store: Path
    num_pairs: int
    num_sources: int
    report: ReadReport = field(default_factory=ReadReport)
    quarantine: Path | None = None


def build_store(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    num_workers: int | None = None,
    on_bad_row: OnBadRow = "error",
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    facts: Mapping[str, SourceFacts] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> BuildResult:
    """Build a store that holds every valid row of some pair files, in their order.

    One file (or BEIR folder) is one source, named by it without its endings. Nothing is
    filtered; rows with score 0 stay and are marked as negatives. Killed at any moment, the same
    call goes on; with other files or options it takes over what these do not concern.

    Args:
        paths: pair files in any format of ``read_pairs``.
        out: the store to be; it must not exist.
        num_workers: processes; None = one a core, at most one a file. More than one need the
            calling script to guard its start with ``if __name__ == "__main__"``.
        on_bad_row: ``error`` stops at a row that cannot be used; ``skip`` counts it and keeps it
            in ``OUT/quarantine``.
        format: of every file; ``auto`` tells them apart.
        columns: names of the fields where no known layout fits.
        facts: what is known of sources, by name.
        max_shard_bytes: size of a shard in memory, in bytes.
        progress: told how many bytes of the files are done.

    Raises:
        DataError: a row cannot be used; a file is absent or empty; two files have one name.
        StorageError: the disk is full; make room and call again, nothing is lost.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            "exists already; choose another --out, or add to a store with `gte data append`",
            path=out,
        )
    building = out.parent / f".{out.name}.building"
    builds = _builds(
        paths,
        building,
        on_bad_row=on_bad_row,
        format=format,
        columns=columns,
        facts=facts or {},
        max_shard_bytes=max_shard_bytes,
    )
    with only_one(building):
        entries, report = _build_all(builds, num_workers, progress)
        Manifest(sources=entries).write(building)
        forget_all_but(building, entries, [build.name for build in builds])
        with storage_errors(out):
            os.replace(building, out)
            fsync_folder(out.parent)
    return result_of(out, report)


def append_to_store(
    store: str | Path,
    paths: Sequence[str | Path],
    *,
    num_workers: int | None = None,
    on_bad_row: OnBadRow = "error",
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    facts: Mapping[str, SourceFacts] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> BuildResult:
    """Add pair files to a store, each as a new source; until all are read it stays as it is.

    Args:
        store: its folder.
        paths: as for ``build_store``, and so are the other options.
        num_workers: processes.
        on_bad_row: ``error`` or ``skip``.
        format: of every file.
        columns: names of the fields.
        facts: by source.
        max_shard_bytes: size of a shard.
        progress: told how many bytes are done.

    Raises:
        DataError: as ``build_store``; or the store has a source of that name already.
    """
    folder = Path(store)
    manifest = Manifest.read(folder)
    for path in paths:
        name = name_of_source(path)
        if name in manifest.sources:
            raise DataError(
                f"the store has a source {name!r} already; rename the file, or build anew",
                path=path,
            )
    more = folder.parent / f".{folder.name}.more"
    if more.exists() and not set(Manifest.read(more).sources) <= set(map(name_of_source, paths)):
        shutil.rmtree(more)  # what an earlier, other call had prepared
    if not more.exists():
        build_store(
            paths,
            more,
            num_workers=num_workers,
            on_bad_row=on_bad_row,
            format=format,
            columns=columns,
            facts=facts,
            max_shard_bytes=max_shard_bytes,
            progress=progress,
        )
    added = Manifest.read(more)
    for file in sorted(more.rglob("*")):
        if file.is_file() and file.name != MANIFEST:
            _link(file, folder / file.relative_to(more))
    for name, entry in added.sources.items():
        manifest = manifest.with_source(name, entry)
    manifest.write(folder)
    shutil.rmtree(more)
    return result_of(folder, sources=tuple(added.sources))


def result_of(
    store: Path, report: ReadReport | None = None, *, sources: Sequence[str] | None = None
) -> BuildResult:
    """What a finished store says of its build.

    Args:
        store: its folder.
        report: of the readers; None = as much as the manifest tells.
        sources: those to report on; None = all.
    """
    opened = PairStore(store)
    if report is None:
        report = ReadReport()
        for name in opened.names if sources is None else sources:
            report.count("pairs", opened.manifest.sources[name].num_pairs)
            report.skipped.update(opened.manifest.sources[name].skipped)
    quarantine = store / QUARANTINE
    return BuildResult(
        store=store,
        num_pairs=opened.num_pairs,
        num_sources=len(opened.names),
        report=report,
        quarantine=quarantine if quarantine.is_dir() else None,
    )


def _builds(
    paths: Sequence[str | Path],
    building: Path,
    *,
    facts: Mapping[str, SourceFacts],
    **options: Any,
) -> list[SourceBuild]:
    if not paths:
        raise DataError("no pair files were given")
    by_name: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise DataError("no such file", path=path)
        name = name_of_source(path)
        if name in by_name:
            raise DataError(
                f"two files make one source {name!r}: {by_name[name]} and this one; rename one",
                path=path,
            )
        by_name[name] = path.absolute()
    unknown = sorted(set(facts) - set(by_name))
    if unknown:
        raise ConfigError(f"facts name {unknown[0]!r}, which no file is called")
    return [
        SourceBuild(
            name=name, path=path, folder=building, facts=facts.get(name, SourceFacts()), **options
        )
        for name, path in by_name.items()
    ]


def _build_all(
    builds: Sequence[SourceBuild], num_workers: int | None, progress: Progress | None
) -> tuple[dict[str, SourceEntry], ReadReport]:
    """Build every source, the large ones first; the error of the first that fails."""
    sizes = {build.name: _size_of(build.path) for build in builds}
    ordered = sorted(builds, key=lambda build: -sizes[build.name])
    if num_workers is not None and num_workers < 1:
        raise ConfigError(f"num_workers must be >= 1, got {num_workers}")
    workers = min(num_workers or os.cpu_count() or 1, len(builds))
    total, done = sum(sizes.values()), 0
    states: dict[str, Progressed] = {}
    runner = _in_turn(ordered) if workers == 1 else _in_parallel(ordered, workers)
    for build, state in runner:
        states[build.name] = state
        done += sizes[build.name]
        if progress is not None:
            progress(done, total)
    report = ReadReport()
    entries: dict[str, SourceEntry] = {}
    for name, state in sorted(states.items()):
        report.merge(state.report)
        if state.entry is not None:
            entries[name] = state.entry
    if not entries:
        raise DataError(f"none of the {len(builds)} files holds a pair that can be used")
    return entries, report


def _in_turn(builds: Sequence[SourceBuild]) -> Iterator[tuple[SourceBuild, Progressed]]:
    for build in builds:
        yield build, build_source(build)


def _in_parallel(
    builds: Sequence[SourceBuild], workers: int
) -> Iterator[tuple[SourceBuild, Progressed]]:
    context = multiprocessing.get_context("spawn")  # Arrow's threads do not survive a fork
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(_build_or_error, build): build for build in builds}
        try:
            for future in as_completed(futures):
                outcome = future.result()
                if isinstance(outcome, _Failure):
                    raise outcome.as_error()
                yield futures[future], outcome
        except BrokenProcessPool as error:
            raise StorageError(
                "a worker process was killed, perhaps for want of memory; run the same command "
                "again, with fewer workers if it happens again"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Failure:
    """A user's error on its way between processes: exceptions with keywords do not travel."""

    kind: type[UserError]
    message: str
    path: Path | None
    line: int | None

    def as_error(self) -> UserError:
        return self.kind(self.message, path=self.path, line=self.line)


def _build_or_error(build: SourceBuild) -> Progressed | _Failure:
    try:
        return build_source(build)
    except (DataError, StorageError, ConfigError) as error:
        return _Failure(type(error), error.message, error.path, error.line)


@contextlib.contextmanager
def only_one(building: Path) -> Iterator[None]:
    """Hold the folder against a second build of the same store."""
    with storage_errors(building):
        building.mkdir(parents=True, exist_ok=True)
        with open(building / _LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DataError(
                    "another build of this store is under way", path=building
                ) from error
            yield


def forget_all_but(
    building: Path, entries: Mapping[str, SourceEntry], names: Sequence[str]
) -> None:
    """Remove what no manifest names: notes of progress, sources of an earlier attempt."""
    shutil.rmtree(building / PARTS, ignore_errors=True)
    named = {shard.file for entry in entries.values() for shard in entry.shards}
    named |= {entry.matching.file for entry in entries.values() if entry.matching}
    named |= {f"{QUARANTINE}/{name}.jsonl" for name in names}
    named.add(MANIFEST)
    for file in building.rglob("*"):
        if file.is_file() and file.relative_to(building).as_posix() not in named:
            file.unlink()


def _size_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _link(file: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no links."""
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copy2(file, target)
