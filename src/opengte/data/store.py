"""The pair store: a folder of memory-mapped columns and a manifest -> sources of a mixture.

Opening reads the manifest and the footers of the shards; rows are read when a batch takes them.
Layout and manifest: ``docs/reference/store.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from opengte.contracts import Progress
from opengte.data.manifest import FileEntry, Manifest, SourceEntry, SourceFacts
from opengte.data.negatives import open_negatives
from opengte.data.pair_rows import PairRows
from opengte.data.shards import open_rows, open_shard
from opengte.data.sources import Source
from opengte.data.text_columns import text_hashes
from opengte.data.writers import write_pairs
from opengte.errors import DataError
from opengte.records import Pair


class PairStore:
    """An open store. It is never changed through this object.

    Args:
        path: its folder.

    Raises:
        DataError: it is no store, or a file of it is missing or of another size.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        self._open: dict[str, pa.RecordBatch] = {}
        self._rows = {name: self._open_rows(entry) for name, entry in self.manifest.sources.items()}

    @property
    def num_pairs(self) -> int:
        """Rows of all sources."""
        return self.manifest.num_pairs

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources, sorted."""
        return tuple(self.manifest.sources)

    def rows(self, name: str) -> PairRows:
        """The rows of one source.

        Raises:
            DataError: there is no such source; names those there are.
        """
        if name not in self._rows:
            known = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise DataError(f"no source {name!r}; the store has: {known}", path=self.path)
        return self._rows[name]

    def source(self, name: str, **facts: Any) -> Source:
        """One source for a mixture; ``facts`` override those of the manifest."""
        rows, entry = self.rows(name), self.manifest.sources[name]
        matching = None if entry.matching is None else open_rows(self.path, entry.matching)
        known: dict[str, Any] = {
            "task": entry.facts.task,
            "symmetric": entry.facts.symmetric,
            "in_batch_negatives": entry.facts.in_batch_negatives,
            "scored": entry.facts.scored,
            "query_prompt": entry.facts.query_prompt,
            "document_prompt": entry.facts.document_prompt,
        }
        return Source(
            name=name,
            rows=rows,
            fingerprint=entry.fingerprint,
            matching=matching,
            all_match=entry.matching is None,
            refreshed=tuple(
                open_negatives(self.path, negatives)
                for negatives in self.manifest.negatives
                if negatives.source == name
            ),
            **{**known, **facts},
        )

    def sources(self, names: Sequence[str] | None = None) -> list[Source]:
        """Sources for a mixture: all, or some by name."""
        return [self.source(name) for name in (self.names if names is None else names)]

    def head(self, number: int = 3, *, source: str | None = None) -> dict[str, list[Pair]]:
        """The first pairs of each source, or of one."""
        names = self.names if source is None else (source,)
        return {
            name: list(self.rows(name).pairs(np.arange(min(number, len(self.rows(name))))))
            for name in names
        }

    def pairs(self, source: str) -> Iterator[Pair]:
        """All pairs of a source, as they were read."""
        return self.rows(source).pairs()

    def stats(self) -> dict[str, Any]:
        """Counts and lengths, JSON-able: ``{"num_pairs", "sources": {NAME: {...}}}``."""
        return {
            "num_pairs": self.num_pairs,
            "sources": {name: _stats_of(entry) for name, entry in self.manifest.sources.items()},
        }

    def _open_rows(self, entry: SourceEntry) -> PairRows:
        for shard in entry.shards:
            if shard.file not in self._open:
                self._open[shard.file] = open_shard(self.path, shard)
        return PairRows([self._open[shard.file] for shard in entry.shards])


def describe_source(path: str | Path, name: str, **facts: Any) -> None:
    """Change what the manifest says of a source: its task, prompts, licence, ...

    Raises:
        DataError: there is no such source or no such fact.
    """
    store = PairStore(path)
    store.rows(name)
    entry = store.manifest.sources[name]
    try:
        changed = replace(entry.facts, **facts)
    except TypeError as error:
        known = ", ".join(SourceFacts.__dataclass_fields__)
        raise DataError(f"no such fact among {sorted(facts)}; there are: {known}") from error
    store.manifest.with_source(name, replace(entry, facts=changed)).write(store.path)


def verify_store(path: str | Path, *, progress: Progress | None = None) -> int:
    """Read everything and compare it with the manifest; returns the number of bytes read.

    Raises:
        DataError: names the first file whose content is not what was written.
    """
    store = PairStore(path)
    entries = [(shard, True) for entry in store.manifest.sources.values() for shard in entry.shards]
    entries += [
        (entry.matching, False) for entry in store.manifest.sources.values() if entry.matching
    ]
    entries += [(entry.file, False) for entry in store.manifest.negatives]
    num_bytes = 0
    for number, (entry, is_shard) in enumerate({e.file: (e, s) for e, s in entries}.values()):
        _verify_file(store.path, entry, is_shard)
        num_bytes += entry.num_bytes
        if progress is not None:
            progress(number + 1, len(entries))
    return num_bytes


def export_store(
    path: str | Path, out: str | Path, *, names: Sequence[str] | None = None, suffix: str = ".jsonl"
) -> dict[str, int]:
    """Write each source as ``OUT/NAME.jsonl`` (``.jsonl.zst``, ``.jsonl.gz``); returns the counts.

    ``gte data build`` on these files gives the same pairs again.
    """
    store = PairStore(path)
    return {
        name: write_pairs(Path(out) / f"{name}{suffix}", store.pairs(name))
        for name in (store.names if names is None else names)
    }


def _verify_file(folder: Path, entry: FileEntry, is_shard: bool) -> None:
    path = folder / entry.file
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path) from error
    if digest.hexdigest() != entry.sha256:
        raise DataError(
            "the content does not match the manifest's sha256: the file was altered or damaged; "
            "restore it, or build anew",
            path=path,
        )
    if not is_shard:
        return
    batch = open_shard(folder, entry)
    batch.validate(full=True)
    for side in ("query", "positive"):
        if (text_hashes(batch.column(side)) != batch.column(f"{side}_hash").to_numpy()).any():
            raise DataError(f"hashes of the column {side!r} do not fit its texts", path=path)


def _stats_of(entry: SourceEntry) -> dict[str, Any]:
    return {
        "num_pairs": entry.num_pairs,
        "num_matching": entry.num_matching,
        "num_negative": entry.num_negative,
        "num_same_sides": entry.num_same_sides,
        "num_with_score": entry.num_with_score,
        "num_with_negatives": entry.num_with_negatives,
        "num_bytes": sum(shard.num_bytes for shard in entry.shards),
        "task": entry.facts.task,
        "licence": entry.facts.licence,
        "tokens": {
            side: {
                "mean": round(lengths.num_tokens / max(entry.num_pairs, 1), 1),
                "p50": lengths.p50,
                "p90": lengths.p90,
                "p99": lengths.p99,
                "longest": lengths.longest,
                "total": lengths.num_tokens,
            }
            for side, lengths in (("query", entry.query), ("positive", entry.positive))
        },
        "skipped": dict(entry.skipped),
        "filtered": dict(entry.filtered),
    }
