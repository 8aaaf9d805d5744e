"""Parquet and Arrow files (and folders that Hugging Face ``datasets`` saved) to numbered rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.layouts import Layout
from opengte.data.readers.row_pairs import pairs_of_rows
from opengte.errors import DataError
from opengte.records import Pair

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1024


def read_parquet_pairs(
    path: Path, bad_rows: BadRows, layout: Layout | None = None
) -> Iterator[Pair]:
    """Yield the pairs of a Parquet file; an origin is ``file:row``, from 1."""
    yield from pairs_of_rows(read_parquet_rows(path), path, bad_rows, layout)


def read_arrow_pairs(path: Path, bad_rows: BadRows, layout: Layout | None = None) -> Iterator[Pair]:
    """Yield the pairs of an Arrow IPC file or stream, or of a saved ``datasets`` folder."""
    yield from pairs_of_rows(read_arrow_rows(path), path, bad_rows, layout)


def read_parquet_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row number from 1, column to value), a thousand rows in memory at a time.

    Raises:
        DataError: not a Parquet file, or a damaged one.
    """
    import pyarrow.parquet as pq

    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS)

    yield from _rows(batches(), Path(path), "Parquet")


def read_arrow_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row number from 1, column to value).

    Raises:
        DataError: not an Arrow file, or a damaged one.
    """
    path = Path(path)
    files = saved_dataset_files(path) if path.is_dir() else [path]
    number = 0
    for file in files:
        for _, row in _rows(_arrow_batches(file), file, "Arrow"):
            number += 1
            yield number, row


def saved_dataset_files(folder: Path) -> list[Path]:
    """The Arrow files of ``Dataset.save_to_disk``, or of the train split of a ``DatasetDict``.

    Raises:
        DataError: the folder is neither.
    """
    folder = split_folder(folder, "train")
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("no folder that datasets' save_to_disk wrote", path=folder) from error
    files = [folder / Path(name).name for name in names]
    for file in files:
        if not file.is_file():
            raise DataError("state.json names this file, which is missing", path=file)
    return files


def is_saved_dataset(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def split_folder(folder: Path, split: str) -> Path:
    """The folder of a split of a saved ``DatasetDict``; the folder itself if it is none."""
    index = folder / "dataset_dict.json"
    if not index.is_file():
        return folder
    try:
        splits = list(json.loads(index.read_text(encoding="utf-8"))["splits"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("no list of splits", path=index) from error
    if split in splits:
        return folder / split
    if len(splits) == 1:
        return folder / str(splits[0])
    raise DataError(f"no split {split!r} among {splits}; give the split's own folder", path=folder)


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            file = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            yield from pa.ipc.open_stream(source)
            return
        for number in range(file.num_record_batches):
            yield file.get_batch(number)


def _rows(
    batches: Iterator[pa.RecordBatch], path: Path, kind: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            batch.validate(full=True)  # offsets that point outside would crash what reads them
            for start in range(0, len(batch), BATCH_ROWS):
                for row in batch.slice(start, BATCH_ROWS).to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        reason = str(error).split("\n")[0][:200]
        raise DataError(f"no readable {kind} file: {reason}", path=path, line=number + 1) from error
