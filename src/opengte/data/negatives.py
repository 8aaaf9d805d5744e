"""Refreshed negatives: numbered files that replace the hard negatives of rows from a step on.

The manifest names each file with the step that it is valid from, so that the batch of a step
stays a function of (seed, step, manifest): a file concerns steps that had not been drawn when
it was written. Axes: N rows with new negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.data.manifest import FileEntry, Manifest, NegativesEntry
from opengte.data.shards import HashedStream, open_shard
from opengte.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class RefreshedNegatives:
    """New negatives of some rows of one source.

    Attributes:
        valid_from: the first step whose batch uses them.
        rows: numbers of the rows, int64, (N,), ascending.
        texts: an Arrow list of texts for each, (N,).
        sha256: of the content.
    """

    valid_from: int
    rows: NDArray[np.int64]
    texts: pa.Array
    sha256: str

    def replace(self, rows: NDArray[np.int64], negatives: list[tuple[str, ...]]) -> None:
        """Put the new negatives in the place of those of ``rows``, where there are any."""
        if not len(self.rows):
            return
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        renewed = np.flatnonzero(self.rows[places] == rows)
        found = self.texts.take(pa.array(places[renewed])).to_pylist()
        for row, texts in zip(renewed.tolist(), found, strict=True):
            negatives[row] = tuple(texts)


def add_negatives(
    store: str | Path,
    source: str,
    rows: Sequence[int] | NDArray[np.integer],
    negatives: Sequence[Sequence[str]],
    *,
    valid_from: int,
) -> NegativesEntry:
    """Write the next numbered file into a store and name it in the manifest.

    Args:
        store: its folder.
        source: whose rows get new negatives.
        rows: their numbers, each once.
        negatives: the new hard negatives of each.
        valid_from: the first step that uses them. Never a step that may have been drawn already.

    Raises:
        DataError: there is no such source or row, or a row stands twice.
        ConfigError: a file before this one is valid from a later step.
    """
    folder = Path(store)
    manifest = Manifest.read(folder)
    if source not in manifest.sources:
        raise DataError(f"no source {source!r} to give negatives to", path=folder)
    numbers = np.asarray(rows, np.int64)
    _check(numbers, negatives, manifest.sources[source].num_pairs)
    latest = max((entry.valid_from for entry in manifest.negatives), default=0)
    if valid_from < latest:
        raise ConfigError(
            f"negatives valid from step {valid_from} would change batches that earlier files, "
            f"valid from step {latest}, have settled; give {latest} or more"
        )
    order = np.argsort(numbers)
    batch = pa.record_batch(
        {
            "row": pa.array(numbers[order]),
            "negatives": pa.array(
                [list(negatives[i]) for i in order.tolist()], pa.list_(pa.string())
            ),
        }
    )
    number = len(manifest.negatives) + 1
    entry = NegativesEntry(
        number=number,
        source=source,
        valid_from=valid_from,
        file=_write(folder, f"negatives/{number:08d}.arrow", batch),
    )
    replace(manifest, negatives=(*manifest.negatives, entry)).write(folder)
    return entry


def open_negatives(folder: Path, entry: NegativesEntry) -> RefreshedNegatives:
    """Map one of the manifest's files into memory."""
    batch = open_shard(folder, entry.file)
    rows = batch.column("row").to_numpy()
    return RefreshedNegatives(entry.valid_from, rows, batch.column("negatives"), entry.file.sha256)


def _check(rows: NDArray[np.int64], negatives: Sequence[Sequence[str]], num_rows: int) -> None:
    if len(rows) != len(negatives):
        raise DataError(f"{len(rows)} rows but {len(negatives)} lists of negatives")
    if len(np.unique(rows)) != len(rows):
        raise DataError("a row stands twice among those that get new negatives")
    if len(rows) and (rows.min() < 0 or rows.max() >= num_rows):
        raise DataError(f"rows must lie in [0, {num_rows}), got {rows.min()}..{rows.max()}")


def _write(folder: Path, file: str, batch: pa.RecordBatch) -> FileEntry:
    with atomic_file(folder / file) as stream:
        hashed = HashedStream(stream)
        with pa.ipc.new_file(pa.PythonFile(hashed, mode="w"), batch.schema) as writer:
            writer.write_batch(batch)
    return FileEntry(
        file=file, num_rows=batch.num_rows, num_bytes=hashed.num_bytes, sha256=hashed.sha256
    )
