"""Shards: Arrow files that hold the rows of a store, written whole, opened without reading them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.data.manifest import FileEntry, Lengths, SourceEntry
from opengte.data.pair_rows import ORIGIN_FILE, TYPES
from opengte.errors import DataError

MAX_SHARD_BYTES = 256 << 20
"""A shard is closed when it holds so much: few files, and far below the 2 GiB that a column of
text may have."""


class HashedStream:
    """Passes bytes on to a file and hashes them on the way."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.num_bytes = 0
        self.closed = False

    def write(self, content: Any) -> int:
        """Write and hash; returns the number of bytes."""
        view = memoryview(content).cast("B")
        self._digest.update(view)
        self._stream.write(view)
        self.num_bytes += len(view)
        return len(view)

    def flush(self) -> None:
        """Flush the file."""
        self._stream.flush()

    @property
    def sha256(self) -> str:
        """Of all that was written, in hex."""
        return self._digest.hexdigest()


def write_shard(folder: Path, file: str, batches: Sequence[pa.RecordBatch]) -> FileEntry:
    """Write some batches as one record batch.

    Args:
        folder: of the store.
        file: the shard's path in it.
        batches: less than 2 GiB of text together; columns may differ.

    Raises:
        StorageError: the disk is full; nothing is left of the shard then.
    """
    batch = unified(batches)
    with atomic_file(folder / file) as stream:
        hashed = HashedStream(stream)
        with pa.ipc.new_file(pa.PythonFile(hashed, mode="w"), batch.schema) as writer:
            writer.write_batch(batch)
    return FileEntry(
        file=file, num_rows=batch.num_rows, num_bytes=hashed.num_bytes, sha256=hashed.sha256
    )


def unified(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of several, with every column that any of them has."""
    present = {name for batch in batches for name in batch.schema.names}
    if "origin" in present and "line" in present:
        batches = [_with_origins(batch) for batch in batches]
        present.discard("line")
    names = [name for name in TYPES if name in present]
    metadata = batches[0].schema.metadata if "line" in present else None
    schema = pa.schema([(name, TYPES[name]) for name in names], metadata=metadata)
    filled = [
        pa.record_batch([_column(batch, name) for name in names], schema=schema)
        for batch in batches
    ]
    return filled[0] if len(filled) == 1 else pa.concat_batches(filled)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name in batch.schema.names:
        return batch.column(name)
    kind = TYPES[name]
    empty: Any = [] if pa.types.is_list(kind) else "" if pa.types.is_string(kind) else None
    return pa.repeat(pa.scalar(empty, kind), batch.num_rows)


def _with_origins(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Line numbers turned into origins that name their file."""
    if "line" not in batch.schema.names:
        return batch
    file = (batch.schema.metadata or {}).get(ORIGIN_FILE, b"").decode()
    origins = pa.array([f"{file}:{line}" for line in batch.column("line").to_pylist()], pa.string())
    batch = batch.drop_columns(["line"])
    return batch.append_column("origin", origins)


def open_shard(folder: Path, entry: FileEntry) -> pa.RecordBatch:
    """Map a shard into memory; its pages are read when they are used.

    Raises:
        DataError: the file is absent, of another size than the manifest says, or no Arrow file.
    """
    path = folder / entry.file
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise DataError(
            "a shard of the store is missing; restore it, or build anew", path=path
        ) from error
    if size != entry.num_bytes:
        raise DataError(
            f"the shard has {size:,} bytes where the manifest says {entry.num_bytes:,}; "
            "restore it, or build anew",
            path=path,
        )
    try:
        # The batch keeps the map alive; the reader need not.
        batch: pa.RecordBatch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"the shard is damaged ({error}); restore it, or build anew", path=path
        ) from error
    if batch.num_rows != entry.num_rows:
        raise DataError(
            f"the shard has {batch.num_rows:,} rows where the manifest says {entry.num_rows:,}",
            path=path,
        )
    return batch


def describe_rows(
    folder: Path, name: str, shards: Sequence[FileEntry], batches: Sequence[pa.RecordBatch]
) -> SourceEntry:
    """Count what the rows hold, and write down which of them match where not all do.

    Args:
        folder: of the store.
        name: of the source.
        shards: as they are in the manifest.
        batches: the same, open.
    """
    matching, num_rows = [], 0
    num_negative = num_same = num_scored = num_with_negatives = 0
    for batch in batches:
        same = _numbers(batch, "query_hash") == _numbers(batch, "positive_hash")
        negative = np.zeros(batch.num_rows, np.bool_)
        if "score" in batch.schema.names:
            scores = batch.column("score")
            negative = scores.fill_null(1.0).to_numpy() == 0
            num_scored += len(scores) - scores.null_count
        if "negatives" in batch.schema.names:
            offsets = batch.column("negatives").offsets.to_numpy()
            num_with_negatives += int((np.diff(offsets) > 0).sum())
        num_negative += int(negative.sum())
        num_same += int((same & ~negative).sum())
        matching.append(np.flatnonzero(~(same | negative)) + num_rows)
        num_rows += batch.num_rows
    num_matching = sum(map(len, matching))
    entry = SourceEntry(
        num_pairs=num_rows,
        num_matching=num_matching,
        num_negative=num_negative,
        num_same_sides=num_same,
        num_with_score=num_scored,
        num_with_negatives=num_with_negatives,
        query=Lengths.of([_numbers(batch, "query_tokens") for batch in batches]),
        positive=Lengths.of([_numbers(batch, "positive_tokens") for batch in batches]),
        shards=tuple(shards),
        matching=None
        if num_matching == num_rows
        else _write_rows(folder, f"rows/{name}.npy", np.concatenate(matching), num_rows),
    )
    return entry


def open_rows(folder: Path, entry: FileEntry) -> NDArray[np.integer]:
    """Map an array of row numbers into memory.

    Raises:
        DataError: the file is absent or damaged.
    """
    path = folder / entry.file
    try:
        rows: NDArray[np.integer] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"row numbers of the store cannot be read ({error}); build anew", path=path
        ) from error
    if len(rows) != entry.num_rows:
        raise DataError(
            f"holds {len(rows):,} row numbers where the manifest says {entry.num_rows:,}", path=path
        )
    return rows


def _write_rows(folder: Path, file: str, rows: NDArray[np.int64], num_rows: int) -> FileEntry:
    small = rows.astype(np.uint32 if num_rows < 1 << 32 else np.int64)
    with atomic_file(folder / file) as stream:
        hashed = HashedStream(stream)
        np.lib.format.write_array(hashed, small, allow_pickle=False)
    return FileEntry(
        file=file, num_rows=len(rows), num_bytes=hashed.num_bytes, sha256=hashed.sha256
    )


def _numbers(batch: pa.RecordBatch, column: str) -> NDArray[Any]:
    values: NDArray[Any] = batch.column(column).to_numpy()
    return values
