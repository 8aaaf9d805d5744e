"""A store -> a smaller store: every filter over every source, with the reasons counted.

Sources are filtered one after another, in the order of their names: rows one by one, then exact
duplicates among what is left of all sources, then near-duplicates within the source. So a row
never goes because of one that goes itself. Sources that are done stay done when the call is
killed: the same call goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from opengte.atomic import fsync_folder, storage_errors, write_json
from opengte.contracts import Progress
from opengte.data.build import forget_all_but, only_one
from opengte.data.evaluation_sets import EvaluationSet
from opengte.data.filters.apply import FiltersConfig, filter_pairs
from opengte.data.filters.contract import FilterReport, PairFilter
from opengte.data.filters.decontamination import Decontaminator
from opengte.data.filters.duplicates import (
    Same,
    SeenKeys,
    duplicate_keys,
    near_duplicates,
)
from opengte.data.manifest import (
    FileEntry,
    Manifest,
    SourceEntry,
    source_from_json,
    source_to_json,
)
from opengte.data.pair_rows import blocks_of_pairs, pairs_to_batch
from opengte.data.shards import MAX_SHARD_BYTES, describe_rows, open_shard, write_shard
from opengte.data.source_build import PARTS, QUARANTINE
from opengte.data.store import PairStore
from opengte.data.text_columns import text_hashes
from opengte.errors import DataError
from opengte.records import Pair

DUPLICATE, NEAR_DUPLICATE = "duplicate", "near-duplicate"
_ROWS, _CHARACTERS = 8192, 1 << 22  # of a block


def filter_store(
    store: str | Path,
    out: str | Path,
    config: FiltersConfig,
    *,
    evaluation: Sequence[EvaluationSet] = (),
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> FilterReport:
    """Write what filters leave of a store as a new one.

    Args:
        store: folder of the store; it is not changed.
        out: the store to be; it must not exist.
        config: which filters.
        evaluation: sets that training must not have seen; pairs with a side in the texts that
            they measure with are dropped.
        max_shard_bytes: size of a shard.
        progress: told how many pairs have been judged.

    Raises:
        DataError: ``out`` exists, nothing is left, or the store has refreshed negatives, which
            number rows.
        StorageError: the disk is full; what was written stays for the next call.
    """
    out = Path(out)
    if out.exists():
        raise DataError("exists already; choose another --out", path=out)
    given = PairStore(store)
    if given.manifest.negatives:
        raise DataError(
            "has refreshed negatives, which number its rows; filter first, then mine",
            path=given.path,
        )
    work = out.parent / f".{out.name}.filtering"
    texts = sorted({text for each in evaluation for row in each.measured for text in row})
    with only_one(work):
        entries, report = _filter_all(given, work, config, texts, max_shard_bytes, progress)
        if not entries:
            raise DataError(f"the filters left none of {given.num_pairs:,} pairs", path=given.path)
        Manifest(sources=entries).write(work)
        if (given.path / QUARANTINE).is_dir():
            shutil.copytree(given.path / QUARANTINE, work / QUARANTINE, dirs_exist_ok=True)
        forget_all_but(work, entries, given.names)
        with storage_errors(out):
            os.replace(work, out)
            fsync_folder(out.parent)
    return report


def _filter_all(
    given: PairStore,
    work: Path,
    config: FiltersConfig,
    texts: Sequence[str],
    max_shard_bytes: int,
    progress: Progress | None,
) -> tuple[dict[str, SourceEntry], FilterReport]:
    filters = config.row_filters()
    if texts:
        filters.append(Decontaminator(texts))
    key = _key(given, config, texts)
    seen = SeenKeys()
    report, entries, done = FilterReport(), {}, 0
    for name in given.names:
        part = work / PARTS / f"{name}.json"
        found = _finished(part, key)
        if found is None:
            run = _SourceRun(given, name, work, filters, config, seen, max_shard_bytes)
            found = run.write()
            write_json(part, {"key": key, "report": found[1].summary(), "entry": _json(found[0])})
        elif found[0] is not None and config.duplicates is not None:
            _remember(found[0], work, config.duplicates, seen)
        report.merge(found[1])
        if found[0] is not None:
            entries[name] = found[0]
        done += len(given.rows(name))
        if progress is not None:
            progress(done, given.num_pairs)
    return entries, report


class _SourceRun:
    """One source on its way through the filters."""

    def __init__(
        self,
        store: PairStore,
        name: str,
        work: Path,
        filters: Sequence[PairFilter],
        config: FiltersConfig,
        seen: SeenKeys,
        max_shard_bytes: int,
    ) -> None:
        self._store, self._name, self._work = store, name, work
        self._filters, self._config, self._seen = filters, config, seen
        self._max_shard_bytes = max_shard_bytes
        self._report = FilterReport()

    def write(self) -> tuple[SourceEntry | None, FilterReport]:
        """Write the shards of what is left; None where nothing is."""
        pairs = self._store.rows(self._name).pairs()
        kept = filter_pairs(pairs, self._filters, report=self._report)
        if self._config.duplicates is not None:
            kept = self._fresh(kept, self._config.duplicates)
        if self._config.near_duplicates is not None:
            kept = self._distinct(kept)
        shards: list[FileEntry] = []
        for batches in self._shardfuls(kept):
            file = f"shards/{self._name}-{len(shards):05d}.arrow"
            shards.append(write_shard(self._work, file, batches))
        if not shards:
            return None, self._report
        entry = describe_rows(
            self._work, self._name, shards, [open_shard(self._work, shard) for shard in shards]
        )
        before = self._store.manifest.sources[self._name]
        counts = dict(before.filtered)
        for reason, number in self._report.dropped.items():
            counts[reason] = counts.get(reason, 0) + number
        return (
            replace(
                entry,
                facts=before.facts,
                inputs=before.inputs,
                skipped=before.skipped,
                filtered=counts,
            ),
            self._report,
        )

    def _fresh(self, pairs: Iterator[Pair], same: Same) -> Iterator[Pair]:
        """Without repetitions of a row before, in this source or another."""
        for block in blocks_of_pairs(pairs, max_pairs=_ROWS, max_characters=_CHARACTERS):
            queries = text_hashes(pa.array([pair.query for pair in block], pa.string()))
            positives = text_hashes(pa.array([pair.positive for pair in block], pa.string()))
            new = self._seen.add(duplicate_keys(queries, positives, same=same))
            yield from self._without(block, ~new, DUPLICATE)

    def _distinct(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """Without near-duplicates; holds the texts of the source in memory."""
        given = list(pairs)
        options = {
            name: value
            for name, value in asdict(self._config.near_duplicates).items()  # type: ignore[arg-type]
        }
        again = near_duplicates(
            [pair.query for pair in given], [pair.positive for pair in given], **options
        )
        yield from self._without(given, again, NEAR_DUPLICATE)

    def _without(
        self, pairs: Sequence[Pair], dropped: NDArray[np.bool_], reason: str
    ) -> Iterator[Pair]:
        """Those not ``dropped``, which the row filters had counted as kept."""
        for pair, drop in zip(pairs, dropped.tolist(), strict=True):
            if drop:
                self._report.num_kept -= 1
                self._report.drop(reason, pair)
            else:
                yield pair

    def _shardfuls(self, pairs: Iterator[Pair]) -> Iterator[list[pa.RecordBatch]]:
        batches: list[pa.RecordBatch] = []
        size = 0
        for block in blocks_of_pairs(pairs, max_pairs=_ROWS, max_characters=_CHARACTERS):
            batches.append(pairs_to_batch(block))
            size += batches[-1].get_total_buffer_size()
            if size >= self._max_shard_bytes:
                yield batches
                batches, size = [], 0
        if batches:
            yield batches


def _remember(entry: SourceEntry, folder: Path, same: Same, seen: SeenKeys) -> None:
    """Take note of the rows that an earlier call wrote."""
    for shard in entry.shards:
        batch = open_shard(folder, shard)
        hashes = (batch.column(f"{side}_hash").to_numpy() for side in ("query", "positive"))
        seen.add(duplicate_keys(*hashes, same=same))


def _key(store: PairStore, config: FiltersConfig, texts: Sequence[str]) -> str:
    facts = [
        [entry.fingerprint for entry in store.manifest.sources.values()],
        asdict(config),
        hashlib.sha256("\x1f".join(texts).encode("utf-8", "surrogatepass")).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=dict).encode()).hexdigest()


def _json(entry: SourceEntry | None) -> object:
    return None if entry is None else source_to_json(entry)


def _finished(part: Path, key: str) -> tuple[SourceEntry | None, FilterReport] | None:
    """What an earlier call wrote of a source, if it asked for the same."""
    try:
        value = json.loads(part.read_bytes())
    except (OSError, ValueError):
        return None
    if value["key"] != key:
        return None
    report = FilterReport(
        num_pairs=value["report"]["num_pairs"], num_kept=value["report"]["num_kept"]
    )
    report.dropped.update(value["report"]["dropped"])
    report.negatives_dropped.update(value["report"]["negatives_dropped"])
    report.examples.update(value["report"]["examples"])
    entry = None if value["entry"] is None else source_from_json(value["entry"])
    return entry, report
