"""Documents on disk, one JSON line each, read by row without holding them all."""

from __future__ import annotations

import json
import os
import weakref
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from opengte.atomic import atomic_file
from opengte.errors import DataError, SearchIndexError
from opengte.records import Document

LINES = "documents.jsonl"
STARTS = "documents.starts.npy"


class DocumentFile:
    """N documents in a folder that ``write_documents`` filled.

    The file stays open, so that an index that is replaced while it answers goes on with the
    documents it was opened with. Safe to read from several threads.

    Raises:
        SearchIndexError: a file is absent or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / LINES
        starts = Path(folder) / STARTS
        try:
            self._starts = np.load(starts, mmap_mode="r", allow_pickle=False)
            self._descriptor = os.open(self._path, os.O_RDONLY)
        except (OSError, ValueError, EOFError) as error:
            raise SearchIndexError(
                "the documents of this index cannot be read; build it again", path=starts
            ) from error
        weakref.finalize(self, os.close, self._descriptor)
        if self._starts.dtype != np.int64 or self._starts[-1] != self._path.stat().st_size:
            raise SearchIndexError("this file was cut or lengthened; build again", path=self._path)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> Document:
        if not 0 <= row < len(self):
            raise IndexError(row)
        start, stop = int(self._starts[row]), int(self._starts[row + 1])
        line = os.pread(self._descriptor, stop - start, start)
        try:
            return Document(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise SearchIndexError(
                "this line is no document; build the index again", path=self._path, line=row + 1
            ) from error

    def __iter__(self) -> Iterator[Document]:
        return (self[row] for row in range(len(self)))


def write_documents(documents: Iterable[Document], folder: str | Path) -> DocumentFile:
    """Write a stream of documents; memory holds their ids alone.

    Raises:
        DataError: there is none, or two share an id.
    """
    folder = Path(folder)
    starts = array("q", [0])
    seen: set[str] = set()
    with atomic_file(folder / LINES) as stream:
        for document in documents:
            if document.id in seen:
                where = f" (at {document.origin})" if document.origin else ""
                raise DataError(
                    f"two documents have the id {document.id!r}{where}; ids must differ"
                )
            seen.add(document.id)
            facts = {name: value for name, value in asdict(document).items() if value}
            line = json.dumps({"id": "", "text": "", **facts}, ensure_ascii=True) + "\n"
            starts.append(starts[-1] + stream.write(line.encode("ascii")))
        if not seen:
            raise DataError("there are no documents to index; give at least one")
    with atomic_file(folder / STARTS) as stream:
        np.save(stream, np.frombuffer(starts, dtype=np.int64), allow_pickle=False)
    return DocumentFile(folder)
