"""Rows of text out of many Arrow columns, in any order, with one copy of each byte.

``Array.take`` serves one column. Over the hundred shards of a large source it gathers shard by
shard, and a second pass puts the rows in order: every byte is copied two or three times. Here
the rows become views first (16 bytes each: a length and where the bytes lie), which are cheap to
put anywhere, and Arrow copies what they point to, in order. The layout is Arrow's "variable-size
binary view": length, then up to 12 bytes in place, or else a prefix, the number of the buffer and
the offset in it. Axes: K rows asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_VIEW = np.dtype([("length", "<i4"), ("prefix", "<i4"), ("buffer", "<i4"), ("offset", "<i4")])
_INLINE = 12


class TextColumns:
    """Columns of the type ``string``, without nulls, that are read as one.

    Args:
        columns: of any lengths; their memory is kept, not copied.
    """

    def __init__(self, columns: Sequence[pa.Array]) -> None:
        self._offsets: list[NDArray[np.int32]] = []
        self._data: list[pa.Buffer] = []
        for column in columns:
            _, offsets, data = column.buffers()
            ends = np.frombuffer(offsets or b"", np.int32)
            self._offsets.append(ends[column.offset : column.offset + len(column) + 1])
            self._data.append(data if data is not None else pa.py_buffer(b""))

    def take(
        self, num_rows: int, parts: Iterable[tuple[int, NDArray[np.int64], NDArray[np.int64]]]
    ) -> pa.Array:
        """The texts of K rows.

        Args:
            num_rows: K.
            parts: of each column that is asked: its number, rows of it, and the place of each
                among the K. Every place must be given once.
        """
        views = np.zeros(num_rows, _VIEW)
        buffers: list[pa.Buffer] = []
        for column, rows, places in parts:
            starts, ends = self._offsets[column][rows], self._offsets[column][rows + 1]
            part = np.zeros(len(rows), _VIEW)
            part["length"], part["offset"], part["buffer"] = ends - starts, starts, len(buffers)
            _put_in_place(part, self._data[column])
            views[places] = part
            buffers.append(self._data[column])
        array = pa.Array.from_buffers(
            pa.string_view(), num_rows, [None, pa.py_buffer(views), *buffers]
        )
        return array.cast(pa.string())


def _put_in_place(views: NDArray[np.void], data: pa.Buffer) -> None:
    """Give texts of up to 12 bytes the form that the layout wants: bytes instead of where."""
    short = np.flatnonzero(views["length"] <= _INLINE)
    if not len(short):
        return
    characters = np.frombuffer(data, np.uint8)
    raw = views.view(np.uint8).reshape(len(views), _VIEW.itemsize)
    steps = np.arange(_INLINE, dtype=np.int32)
    inside = steps < views["length"][short, None]
    at = np.where(inside, views["offset"][short, None] + steps, 0)
    raw[short, 4:] = np.where(inside, characters[at], 0) if len(characters) else 0
