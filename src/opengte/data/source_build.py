"""One pair file -> the shards of one source, picked up where a killed run left it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from opengte.atomic import write_json
from opengte.data.manifest import (
    FileEntry,
    InputEntry,
    SourceEntry,
    SourceFacts,
    source_from_json,
    source_to_json,
)
from opengte.data.pair_blocks import PairBlock, read_pair_blocks
from opengte.data.quarantine import QuarantinedRows
from opengte.data.readers.bad_rows import BadRows, OnBadRow
from opengte.data.readers.detect import suffixes_of
from opengte.data.readers.report import ReadReport
from opengte.data.shards import MAX_SHARD_BYTES, describe_rows, open_shard, write_shard
from opengte.errors import DataError

PARTS = "parts"
QUARANTINE = "quarantine"


@dataclass(frozen=True, kw_only=True)
class SourceBuild:
    """All that building one source depends on; travels to a worker process.

    Attributes:
        name: of the source.
        path: of the pair file.
        folder: where shards are written; its ``parts`` says how far each source has come.
        on_bad_row: ``error`` or ``skip``.
        format, columns: as for ``read_pairs``.
        max_shard_bytes: size at which a shard is closed.
        facts: what is known of the source.
    """

    name: str
    path: Path
    folder: Path
    on_bad_row: OnBadRow = "error"
    format: str = "auto"
    columns: Mapping[str, str] | None = None
    max_shard_bytes: int = MAX_SHARD_BYTES
    facts: SourceFacts = field(default_factory=SourceFacts)

    @property
    def part(self) -> Path:
        """Says how far this source has come."""
        return self.folder / PARTS / f"{self.name}.json"

    @property
    def key(self) -> str:
        """Changes when the file or an option does, so that nothing stale is taken over."""
        facts: list[Any] = [self.on_bad_row, self.format, dict(self.columns or {})]
        for file in _files_of(self.path):
            stat = file.stat()
            facts.append([str(file), stat.st_size, stat.st_mtime_ns])
        text = json.dumps([*facts, self.max_shard_bytes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """How far a source has come.

    Attributes:
        key: ``SourceBuild.key`` when it was written.
        shards: those that are whole.
        last_line: the last line of the file that they hold (0: the file has no lines).
        report: what was read and skipped so far.
        quarantine_bytes: how much of the quarantine belongs to these lines.
        entry: of the manifest; set when all is done (None where the file had no usable row).
        done: whether it is.
    """

    key: str
    shards: tuple[FileEntry, ...] = ()
    last_line: int = 0
    report: ReadReport = field(default_factory=ReadReport)
    quarantine_bytes: int = 0
    entry: SourceEntry | None = None
    done: bool = False

    def write(self, path: Path) -> None:
        """Replace the file at ``path`` in one step."""
        value = {
            "key": self.key,
            "shards": [vars_of(shard) for shard in self.shards],
            "last_line": self.last_line,
            "report": self.report.summary(),
            "quarantine_bytes": self.quarantine_bytes,
            "entry": None if self.entry is None else source_to_json(self.entry),
            "done": self.done,
        }
        write_json(path, value)

    @classmethod
    def read(cls, build: SourceBuild) -> Progressed:
        """What an earlier run left, if it read the same file in the same way."""
        fresh = cls(key=build.key)
        try:
            value = json.loads(build.part.read_bytes())
        except (OSError, ValueError):
            return fresh
        if value["key"] != fresh.key:
            return fresh
        report = ReadReport()
        report.read.update(value["report"]["read"])
        report.skipped.update(value["report"]["skipped"])
        report.examples.update(value["report"]["examples"])
        return cls(
            key=value["key"],
            shards=tuple(FileEntry(**shard) for shard in value["shards"]),
            last_line=value["last_line"],
            report=report,
            quarantine_bytes=value["quarantine_bytes"],
            entry=None if value["entry"] is None else source_from_json(value["entry"]),
            done=value["done"],
        )


def vars_of(entry: FileEntry) -> dict[str, Any]:
    """A JSON-able form."""
    return {name: getattr(entry, name) for name in entry.__dataclass_fields__}


def build_source(build: SourceBuild) -> Progressed:
    """Read the file and write its shards, going on from what an earlier run left.

    Raises:
        DataError: a row cannot be used and ``on_bad_row`` is ``error``; the file holds no pair.
        StorageError: the disk is full; whole shards stay for the next run.
    """
    state = Progressed.read(build)
    if state.done:
        return state
    if state.shards and not state.last_line:
        state = Progressed(key=state.key)  # only lines can be picked up in the middle
    bad_rows = _bad_rows(build, state)
    try:
        for blocks in _shardfuls(build, bad_rows, state.last_line):
            file = f"shards/{build.name}-{len(state.shards):05d}.arrow"
            shard = write_shard(build.folder, file, [block.batch for block in blocks])
            state = replace(
                state,
                shards=(*state.shards, shard),
                last_line=blocks[-1].last_line,
                report=bad_rows.report,
                quarantine_bytes=_quarantined(bad_rows),
            )
            state.write(build.part)
    except DataError as error:
        if not bad_rows.skip or state.shards:
            raise
        bad_rows.report.skip("empty source", path=build.path, detail=error.message)
    state = replace(state, report=bad_rows.report, quarantine_bytes=_quarantined(bad_rows))
    if state.shards:
        batches = [open_shard(build.folder, shard) for shard in state.shards]
        described = describe_rows(build.folder, build.name, state.shards, batches)
        state = replace(
            state,
            entry=replace(
                described,
                facts=build.facts,
                inputs=tuple(_input_entry(file) for file in _files_of(build.path)),
                skipped=dict(state.report.skipped),
            ),
        )
    state = replace(state, done=True)
    state.write(build.part)
    return state


def name_of_source(path: str | Path) -> str:
    """The file's name without its endings: ``data/stsb_train.jsonl.zst`` is ``stsb_train``."""
    path = Path(path)
    if path.is_dir():
        return path.resolve().name
    suffix, compression = suffixes_of(path)
    name = path.name[: -len(compression)] if compression else path.name
    return name[: -len(suffix)] if suffix else name


def _shardfuls(build: SourceBuild, bad_rows: BadRows, after_line: int) -> Iterator[list[PairBlock]]:
    """Blocks of the file, joined to as many as a shard takes.

    Raises:
        DataError: there is not one pair in the file.
    """
    blocks: list[PairBlock] = []
    size = 0
    any_rows = after_line > 0
    for block in read_pair_blocks(
        build.path, bad_rows, format=build.format, columns=build.columns, after_line=after_line
    ):
        _stop_if_orphaned()
        if not block.batch.num_rows:
            continue
        any_rows = True
        blocks.append(block)
        size += _bytes_of(block.batch)
        if size >= build.max_shard_bytes:
            yield blocks
            blocks, size = [], 0
    if blocks:
        yield blocks
    if not any_rows:
        skipped = bad_rows.report.num_skipped
        why = f"; {skipped:,} rows were skipped" if skipped else ": it is empty"
        raise DataError(f"holds no pairs{why}", path=build.path)


def _bytes_of(batch: pa.RecordBatch) -> int:
    return int(batch.get_total_buffer_size())


def _stop_if_orphaned() -> None:
    """End a worker whose parent was killed: another run may be at work on the same folder."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit(1)


def _bad_rows(build: SourceBuild, state: Progressed) -> BadRows:
    if build.on_bad_row == "error":
        return BadRows("error", state.report)
    path = build.folder / QUARANTINE / f"{build.name}.jsonl"
    return QuarantinedRows(path, state.report, keep_bytes=state.quarantine_bytes)


def _quarantined(bad_rows: BadRows) -> int:
    return bad_rows.num_bytes if isinstance(bad_rows, QuarantinedRows) else 0


def _files_of(path: Path) -> list[Path]:
    """The file, or all files of a folder that is one source (BEIR)."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.exists():
        raise DataError("no such file", path=path)
    return [path]


def _input_entry(path: Path) -> InputEntry:
    digest = hashlib.sha256()
    with contextlib.closing(open(path, "rb")) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return InputEntry(file=path.name, num_bytes=path.stat().st_size, sha256=digest.hexdigest())
