"""Pairs as Arrow columns: rows by number out, without touching the others.

The same columns serve pairs in memory and the memory-mapped shards of a store. Beside the
texts stand what a mixture needs to know of a row before it reads it: hashes and lengths.
Axes: N rows, K rows asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from opengte.data.text_columns import estimate_tokens, text_hashes
from opengte.data.text_gather import TextColumns
from opengte.errors import DataError
from opengte.records import Pair

_TEXTS = pa.list_(pa.string())
_NUMBERS = pa.list_(pa.float64())
TYPES: dict[str, pa.DataType] = {
    "query": pa.string(),
    "positive": pa.string(),
    "negatives": _TEXTS,
    "score": pa.float64(),
    "negative_scores": _NUMBERS,
    "group": pa.string(),
    "kind": pa.string(),
    "origin": pa.string(),
    "line": pa.int32(),
    "query_hash": pa.uint64(),
    "positive_hash": pa.uint64(),
    "query_tokens": pa.int32(),
    "positive_tokens": pa.int32(),
}
"""Every column a shard may have. All but the texts and their numbers may be absent, which
means empty (for ``score``: not known) throughout. ``line`` stands for an origin ``FILE:LINE``
whose file is named by the schema's metadata (``ORIGIN_FILE``)."""

ORIGIN_FILE = b"origin_file"


@dataclass(frozen=True, slots=True)
class Rows:
    """K rows taken out: texts, hard negatives (None: no row has any) and scores (likewise)."""

    queries: list[str]
    positives: list[str]
    negatives: list[list[str]] | None
    scores: NDArray[np.float64] | None


def pairs_to_batch(
    pairs: Sequence[Pair], *, lines: Sequence[int] | None = None, origin_file: str = ""
) -> pa.RecordBatch:
    """The columns of some pairs, less than 2 GiB of text in all.

    Args:
        pairs: any number.
        lines: their lines in ``origin_file``, where that is what their origins say.
        origin_file: name of the file they were read from.
    """
    columns: dict[str, Any] = {
        "query": [pair.query for pair in pairs],
        "positive": [pair.positive for pair in pairs],
        "negatives": [list(pair.negatives) for pair in pairs],
        "score": [pair.score for pair in pairs],
        "negative_scores": [list(pair.negative_scores) for pair in pairs],
        "group": [pair.group for pair in pairs],
        "kind": [pair.kind for pair in pairs],
    }
    if lines is None:
        return columns_to_batch({**columns, "origin": [pair.origin for pair in pairs]})
    return columns_to_batch({**columns, "line": lines}, origin_file=origin_file)


def blocks_of_pairs(
    pairs: Iterable[Pair], *, max_pairs: int = 1 << 16, max_characters: int = 1 << 27
) -> Iterator[list[Pair]]:
    """Cut a stream of pairs so that the columns of a block stay far below 2 GiB."""
    block: list[Pair] = []
    size = 0
    for pair in pairs:
        block.append(pair)
        size += len(pair.query) + len(pair.positive) + sum(map(len, pair.negatives))
        if len(block) >= max_pairs or size >= max_characters:
            yield block
            block, size = [], 0
    if block:
        yield block


def columns_to_batch(columns: dict[str, Sequence[Any]], *, origin_file: str = "") -> pa.RecordBatch:
    """Columns of Python values to Arrow; adds hashes and lengths, drops what is empty.

    Args:
        columns: by the names of ``TYPES``.
        origin_file: what the numbers of a column ``line`` are lines of.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError: a value is not of its column's type.
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    arrays: dict[str, pa.Array] = {}
    for name, values in columns.items():
        if name in ("query", "positive") or any(
            value is not None and value != "" and value != [] for value in values
        ):
            arrays[name] = pa.array(values, TYPES[name])
    for side in ("query", "positive"):
        arrays[f"{side}_hash"] = pa.array(text_hashes(arrays[side]))
        arrays[f"{side}_tokens"] = pa.array(estimate_tokens(arrays[side]))
    ordered = [name for name in TYPES if name in arrays]
    metadata = {ORIGIN_FILE: origin_file.encode()} if "line" in arrays else None
    return pa.record_batch([arrays[name] for name in ordered], names=ordered, metadata=metadata)


class PairRows:
    """Random access to the rows of some record batches, in their order.

    Args:
        batches: columns as in ``TYPES``; one batch may stand several times.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._batches = list(batches)
        self._columns: dict[tuple[int, str], Any] = {}
        self._text_columns: dict[str, TextColumns] = {}
        self._starts = np.zeros(len(self._batches) + 1, np.int64)
        np.cumsum([batch.num_rows for batch in self._batches], out=self._starts[1:])
        # The shard of every 2**shift-th row: where to look for the shard of any row.
        self._shift = max(0, len(self).bit_length() - 12)
        marks = np.arange(0, len(self) + 1, 1 << self._shift)
        self._marks = np.searchsorted(self._starts[1:], marks, side="right")

    @classmethod
    def from_pairs(cls, pairs: Iterable[Pair]) -> PairRows:
        """Hold pairs in memory."""
        return cls([pairs_to_batch(block) for block in blocks_of_pairs(pairs)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def fingerprint(self) -> str:
        """Sixteen hex digits over all rows."""
        digest = hashlib.sha256()
        for batch in self._batches:
            for name in batch.schema.names:
                digest.update(f"{name}:{batch.num_rows}".encode())
                for buffer in _own_buffers(batch.column(name)):
                    digest.update(buffer)
        return digest.hexdigest()[:16]

    def has(self, column: str) -> bool:
        """Whether any row may hold something in ``column``."""
        return any(column in batch.schema.names for batch in self._batches)

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Texts and scores of K rows, in the order asked for."""
        place = self._place(rows)
        negatives = self._objects("negatives", place, []) if self.has("negatives") else None
        return Rows(
            self._texts("query", place),
            self._texts("positive", place),
            negatives if negatives and any(negatives) else None,
            self._numbers("score", place, np.nan) if self.has("score") else None,
        )

    def numbers(self, column: str, rows: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """A numeric column for K rows (or all); NaN stands for what is not known.

        Args:
            column: ``score``, ``query_hash``, ``positive_hash``, ``query_tokens``, ...
            rows: row numbers; None reads all N.
        """
        missing = np.nan if column == "score" else 0
        if rows is not None:
            return self._numbers(column, self._place(rows), missing)
        parts = [self._column(i, column, missing) for i in range(len(self._batches))]
        return np.concatenate(parts) if parts else np.zeros(0, TYPES[column].to_pandas_dtype())

    def text_hashes(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Hashes of the queries and of the positives of K rows."""
        place = self._place(rows)
        return self._numbers("query_hash", place, 0), self._numbers("positive_hash", place, 0)

    def pairs(self, rows: NDArray[np.int64] | None = None) -> Iterator[Pair]:
        """The rows as they came in, all or some, whole blocks read at a time."""
        numbers = np.arange(len(self)) if rows is None else rows
        for begin in range(0, len(numbers), 4096):
            yield from self._pairs(numbers[begin : begin + 4096])

    def _pairs(self, rows: NDArray[np.int64]) -> Iterator[Pair]:
        place = self._place(rows)
        empty: dict[str, Any] = {"negatives": [], "score": None, "negative_scores": []}
        names = ("query", "positive", "negatives", "score", "negative_scores")
        columns = [
            self._objects(name, place, empty.get(name, "")) for name in (*names, "group", "kind")
        ]
        columns.append(self._origins(place))
        for query, positive, negatives, score, negative_scores, *rest in zip(*columns, strict=True):
            yield Pair(query, positive, tuple(negatives), score, tuple(negative_scores), *rest)

    def _place(self, rows: NDArray[np.int64]) -> _Place:
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise DataError(f"rows must lie in [0, {len(self)}), got {rows.min()}..{rows.max()}")
        if len(self._batches) <= 1:
            return _Place(len(rows), [(0, rows, np.arange(len(rows)))] if len(rows) else [])
        shard = self._shards_of(rows)
        small = shard.astype(np.int16) if len(self._batches) < 1 << 15 else shard
        order = np.argsort(small, kind="stable")  # of 16 bits: a radix sort
        counts = np.bincount(shard, minlength=len(self._batches))
        ends = np.concatenate([[0], np.cumsum(counts)]).tolist()
        within = (rows - self._starts[shard])[order]
        spans = [(i, slice(ends[i], ends[i + 1])) for i in np.flatnonzero(counts).tolist()]
        return _Place(len(rows), [(i, within[span], order[span]) for i, span in spans])

    def _origins(self, place: _Place) -> list[str]:
        def read(batch: pa.RecordBatch, within: NDArray[np.int64]) -> list[str]:
            if "line" not in batch.schema.names:
                return _values(batch, "origin", within, "")
            file = (batch.schema.metadata or {}).get(ORIGIN_FILE, b"").decode()
            return [f"{file}:{line}" for line in _values(batch, "line", within, None)]

        return self._scattered(place, read)

    def _shards_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        shard = self._marks[rows >> self._shift]
        while (late := rows >= self._starts[shard + 1]).any():
            shard = shard + late
        return shard

    def _texts(self, column: str, place: _Place) -> list[str]:
        """A column that every row has."""
        if column not in self._text_columns:
            columns = [batch.column(column) for batch in self._batches]
            self._text_columns[column] = TextColumns(columns)
        values: list[str] = self._text_columns[column].take(place.num_rows, place.parts).to_pylist()
        return values

    def _objects(self, column: str, place: _Place, missing: Any) -> list[Any]:
        """A column of texts, lists or optional numbers as Python values."""
        return self._scattered(place, lambda batch, within: _values(batch, column, within, missing))

    def _scattered(
        self, place: _Place, read: Callable[[pa.RecordBatch, NDArray[np.int64]], list[Any]]
    ) -> list[Any]:
        """What ``read`` gives of some rows of each shard, put where it belongs."""
        found = np.empty(place.num_rows, np.object_)
        for shard, within, places in place.parts:
            values = read(self._batches[shard], within)
            if len(place.parts) == 1:
                return values
            # Not found[places] = values: numpy would take a list of lists for a matrix.
            found[places] = np.fromiter(values, np.object_, len(values))
        return list(found)

    def _numbers(self, column: str, place: _Place, missing: float) -> NDArray[Any]:
        found = np.zeros(place.num_rows, TYPES[column].to_pandas_dtype())
        for shard, within, places in place.parts:
            found[places] = self._column(shard, column, missing)[within]
        return found

    def _column(self, shard: int, column: str, missing: float) -> NDArray[Any]:
        """One numeric column of one shard; where Arrow allows, a view of its memory."""
        batch = self._batches[shard]
        kind = TYPES[column]
        if column not in batch.schema.names:
            # A view of one value: no memory, whatever its length.
            filled = np.array(missing, kind.to_pandas_dtype())
            return np.broadcast_to(filled, (batch.num_rows,))
        key = (id(batch), column)
        if key not in self._columns:
            array = batch.column(column)
            if array.null_count:
                array = array.fill_null(missing)
            self._columns[key] = array.to_numpy(zero_copy_only=False)
        return self._columns[key]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where K rows lie: of each shard the rows within it, and their places among the K."""

    num_rows: int
    parts: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]


def _values(
    batch: pa.RecordBatch, column: str, within: NDArray[np.int64], missing: Any
) -> list[Any]:
    """Rows of a column as Python values; ``missing`` where the shard has no such column."""
    if column not in batch.schema.names:
        return [missing] * len(within)
    values: list[Any] = batch.column(column).take(pa.array(within)).to_pylist()
    return values


def _own_buffers(array: pa.Array) -> Iterator[memoryview]:
    """The bytes of an array, made independent of how it was sliced."""
    whole = pa.concat_arrays([array]) if array.offset else array
    for buffer in whole.buffers():
        if buffer is not None:
            yield memoryview(buffer)
