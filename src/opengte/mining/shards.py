"""Texts -> their vectors in shards on disk, embedded once and searched without being read whole.

A shard is the search room's: ``write_shard`` makes it in one step, ``open_shard`` maps it. What
this file adds is which process makes which. ``embed_to_shards`` there reads a stream once, in one
process, and names a shard after its texts; here the corpus is known beforehand, several processes
claim shards by number, a killed one's are made by the others, and rows are ranked and scored. So
the folder is named after the embedding space and all texts: another teacher or corpus never meets
old vectors. Shards stay memory-mapped: memory holds one at a time, whatever the corpus.
Axes: N texts, D embedding size, Q queries, K hits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import write_json
from opengte.contracts import Progress, TextEncoder, VectorIndex
from opengte.errors import DataError
from opengte.mining.claims import share_work
from opengte.search.embedding_shards import open_shard, write_shard
from opengte.search.fastest import exact_index
from opengte.text.text_keys import fingerprint_texts

IndexFactory = Callable[[Sequence[NDArray[np.float32]]], VectorIndex]
"""Makes one index over shards that follow each other."""

DEFAULT_SHARD_TEXTS = 32_768


class EmbeddedTexts:
    """N embedded texts in numbered shards below one folder.

    Args:
        folder: where corpora are kept; this one gets a folder of its own inside.
        encoder: whose space the vectors live in; texts are embedded as documents.
        texts: N texts.
        shard_texts: texts in a shard. 32,768 of 384 dimensions are 48 MiB.
        index_factory: makes the index over all shards; what users search with by default.
    """

    def __init__(
        self,
        folder: Path,
        encoder: TextEncoder,
        texts: Sequence[str],
        *,
        shard_texts: int = DEFAULT_SHARD_TEXTS,
        index_factory: IndexFactory = exact_index,
    ) -> None:
        self._encoder = encoder
        self._texts = texts
        self._shard_texts = shard_texts
        self._index_factory = index_factory
        self._indexes: dict[int, VectorIndex] = {}
        self.dimensions = encoder.space.dimensions
        facts = [encoder.space.fingerprint, fingerprint_texts(texts), shard_texts]
        self.fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        self.folder = folder / f"vectors-{self.fingerprint}"

    @property
    def num_shards(self) -> int:
        """How many shards the texts make."""
        return -(-len(self._texts) // self._shard_texts)

    def build(self, *, progress: Progress | None = None) -> None:
        """Embed what is not on disk yet, sharing the work with processes that do the same.

        Raises:
            DataError: the encoder gave vectors of another shape, or not finite ones.
        """
        self._describe()
        done = 0

        def finished(number: int) -> None:
            nonlocal done
            done += len(self._rows(number))
            if progress is not None:
                progress(done, len(self._texts))

        share_work(
            self.num_shards,
            path_of=self._path,
            make=self._make,
            claims=self.folder / "claims",
            done=finished,
        )

    def search(
        self, queries: NDArray[np.float32], k: int, *, num_rows: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Exact best k of the first ``num_rows`` rows, (Q, K), best first, ties by lower row."""
        stop = len(self._texts) if num_rows is None else num_rows
        if stop not in self._indexes:
            starts = range(0, stop, self._shard_texts)
            shards = [self._load(n)[: stop - start] for n, start in enumerate(starts)]
            self._indexes[stop] = self._index_factory(shards)
        return self._indexes[stop].search(queries, min(k, stop))

    def score(
        self, queries: NDArray[np.float32], rows: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        """For each query the inner products with its rows; the shards are read once in order.

        Summed in float64 as the search room's exact index does: a row that is ranked and scored
        has one score.
        """
        owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        wanted = np.concatenate([*rows, np.empty(0, dtype=np.int64)]).astype(np.int64)
        scores = np.empty(len(wanted), dtype=np.float32)
        shard_of = wanted // self._shard_texts
        for number in np.unique(shard_of).tolist():
            (here,) = np.nonzero(shard_of == number)
            vectors = self._load(number)[wanted[here] - number * self._shard_texts]
            left = queries[owners[here]].astype(np.float64)
            scores[here] = np.einsum("nd,nd->n", left, vectors.astype(np.float64))
        borders = np.cumsum([len(row) for row in rows])[:-1]
        return np.split(scores, borders)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of ``rows``, in their order."""
        found = np.empty((len(rows), self.dimensions), dtype=np.float32)
        for number in np.unique(rows // self._shard_texts).tolist():
            here = rows // self._shard_texts == number
            found[here] = self._load(number)[rows[here] - number * self._shard_texts]
        return found

    def _make(self, number: int) -> None:
        rows = self._rows(number)
        texts = self._texts[rows.start : rows.stop]
        write_shard(self._encoder, texts, self._path(number), what=f"shard {number}")

    def _describe(self) -> None:
        path = self.folder / "texts.json"
        if not path.exists():
            space = self._encoder.space
            write_json(
                path,
                {
                    "num_texts": len(self._texts),
                    "shard_texts": self._shard_texts,
                    "dimensions": self.dimensions,
                    "model": space.model,
                    "space": space.fingerprint,
                },
            )

    def _load(self, number: int) -> NDArray[np.float32]:
        path = self._path(number)
        vectors = open_shard(path)
        if vectors.shape != (len(self._rows(number)), self.dimensions):
            raise DataError(
                f"a shard of embedded texts has shape {vectors.shape}, expected "
                f"({len(self._rows(number))}, {self.dimensions}); remove it and run again",
                path=path,
            )
        return vectors

    def _rows(self, number: int) -> range:
        start = number * self._shard_texts
        return range(start, min(start + self._shard_texts, len(self._texts)))

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.npy"
