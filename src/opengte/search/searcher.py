"""Documents -> an index on disk -> the documents that answer a query.

The one search path of the house: users search with it, mining and evaluation use its parts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress, TextEncoder
from opengte.errors import ConfigError, SearchIndexError
from opengte.records import Document, Hit
from opengte.search.bm25 import BM25Index
from opengte.search.documents import DocumentFile, write_documents
from opengte.search.embedding_shards import ROWS_PER_SHARD, embed_to_shards
from opengte.search.exact import ExactIndex
from opengte.search.fusion import reciprocal_rank_fusion
from opengte.search.storage import StoredIndex, check_space, open_index, save_index

Mode = Literal["dense", "bm25", "hybrid"]
MODES: tuple[Mode, ...] = ("dense", "bm25", "hybrid")


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A hit together with its document. A larger score is better; ``rank`` counts from 1."""

    document: Document
    score: float
    rank: int

    @property
    def id(self) -> str:
        """The document's id."""
        return self.document.id


class Searcher:
    """Answers queries from an index folder. Make one with ``build`` or ``open``.

    Args:
        stored: an opened index.
        encoder: embeds the queries; not needed for BM25.
        mode: what ``search`` does when it is not told: ``dense``, ``bm25`` or ``hybrid`` (both,
            joined by reciprocal rank fusion). None takes the most that index and encoder allow.

    Raises:
        SearchIndexError: the encoder lives in another space, or the index cannot do ``mode``.
    """

    def __init__(
        self, stored: StoredIndex, encoder: TextEncoder | None = None, *, mode: Mode | None = None
    ) -> None:
        self._stored = stored
        self._encoder = encoder
        self._dense: ExactIndex | None = None
        if stored.space is not None and encoder is not None:
            check_space(stored.space, encoder.space, stored.folder)
            self._dense = ExactIndex(stored.vectors)
        self.mode: Mode = self._best_mode() if mode is None else mode
        self._check_mode(self.mode)

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        folder: str | Path,
        *,
        encoder: TextEncoder | None = None,
        mode: Mode | None = None,
        tokenizer: str = "words",
        dimensions: int | None = None,
        rows_per_shard: int = ROWS_PER_SHARD,
        progress: Progress | None = None,
    ) -> Searcher:
        """Index a stream of documents and open the result.

        Memory holds ids, one shard of vectors and the word index. A build that was killed and is
        started again embeds only what it had not finished.

        Args:
            documents: read once, in the order that ties follow.
            folder: the index to be; one that stands there is replaced when the new one is whole.
            encoder: embeds the documents; None makes an index of words alone.
            mode: ``dense`` leaves out BM25, ``bm25`` the vectors; None does both if it can.
            tokenizer: of BM25: ``words``, ``words:LANGUAGE``, ``code`` or ``chinese``.
            dimensions: cut vectors to so many values (Matryoshka).
            rows_per_shard: documents embedded at a time.
            progress: told how many documents are embedded.

        Raises:
            DataError: no documents, or two with one id.
            ConfigError: vectors are asked for without an encoder.
        """
        mode = mode or ("bm25" if encoder is None else "hybrid")
        if mode != "bm25" and encoder is None:
            raise ConfigError(f"a {mode} index needs an encoder; give one, or mode 'bm25'")
        folder = Path(folder)
        working = folder.parent / f".{folder.name}.building"
        stored = write_documents(documents, working)
        shards: list[Path] = []
        if mode != "bm25" and encoder is not None:
            shards = embed_to_shards(
                encoder,
                _full_texts(stored),
                working,
                dimensions=dimensions,
                rows_per_shard=rows_per_shard,
                progress=progress,
                total=len(stored),
            )
        bm25 = None
        if mode != "dense":
            ids = [document.id for document in stored]
            bm25 = BM25Index.build(_full_texts(stored), ids=ids, tokenizer=tokenizer)
        space = encoder.space if shards and encoder is not None else None
        save_index(
            folder,
            documents=working,
            shards=shards,
            space=space,
            dimensions=dimensions,
            bm25=bm25,
        )
        shutil.rmtree(working, ignore_errors=True)
        return cls(open_index(folder, verify=False), encoder, mode=mode)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        encoder: TextEncoder | None = None,
        mode: Mode | None = None,
        verify: bool = True,
    ) -> Searcher:
        """Open an index folder; see ``open_index`` for what is checked."""
        space = None if encoder is None else encoder.space
        return cls(open_index(folder, space=space, verify=verify), encoder, mode=mode)

    def __len__(self) -> int:
        return len(self._stored.documents)

    @property
    def documents(self) -> DocumentFile:
        """All documents, by row."""
        return self._stored.documents

    def search(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        mode: Mode | None = None,
        candidates: int = 100,
        weights: tuple[float, float] = (1.0, 1.0),
    ) -> list[list[FoundDocument]]:
        """The at most k best documents of each query, best first.

        Args:
            queries: texts; the model's query prompt is put in front.
            k: hits a query.
            mode: overrides the searcher's own.
            candidates: hits that each side brings to a hybrid search; at least k are taken.
            weights: of the dense and the BM25 side in a hybrid search.
        """
        mode = self.mode if mode is None else mode
        self._check_mode(mode)
        depth = max(k, candidates) if mode == "hybrid" else k
        sides: list[list[list[Hit]]] = []
        if mode in ("dense", "hybrid"):
            sides.append(self._dense_rows(queries, depth))
        if mode in ("bm25", "hybrid"):
            sides.append(self._bm25_rows(queries, depth))
        if mode != "hybrid":
            return [self._fetch(hits) for hits in sides[0]]
        return [
            self._fetch(reciprocal_rank_fusion(pair, weights=weights, limit=k))
            for pair in zip(*sides, strict=True)
        ]

    def _dense_rows(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self._dense is None or self._encoder is None:
            raise SearchIndexError("a dense search needs an encoder", path=self._stored.folder)
        cut = self._stored.dimensions
        dimensions = None if cut == self._encoder.space.dimensions else cut
        if not queries:
            return []
        vectors = self._encoder.encode(list(queries), kind="query", dimensions=dimensions)
        scores, rows = self._dense.search(vectors, k)
        return [_hits(*line) for line in zip(scores, rows, strict=True)]

    def _bm25_rows(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self._stored.bm25 is None:
            raise SearchIndexError("this index holds no words", path=self._stored.folder)
        return [_hits(*line) for line in self._stored.bm25.search_rows(queries, k)]

    def _fetch(self, hits: Iterable[Hit]) -> list[FoundDocument]:
        documents = self._stored.documents
        return [FoundDocument(documents[int(hit.id)], hit.score, hit.rank) for hit in hits]

    def _best_mode(self) -> Mode:
        if self._dense is not None:
            return "hybrid" if self._stored.bm25 is not None else "dense"
        return "bm25"

    def _check_mode(self, mode: str) -> None:
        if mode not in MODES:
            raise ConfigError(f"unknown search mode {mode!r}; give dense, bm25 or hybrid")
        if mode != "bm25" and self._dense is None:
            why = "was built without vectors" if self._stored.space is None else "needs an encoder"
            raise SearchIndexError(
                f"a {mode} search cannot be done: the index {why}", path=self._stored.folder
            )
        if mode != "dense" and self._stored.bm25 is None:
            raise SearchIndexError(
                f"a {mode} search cannot be done: the index was built without BM25",
                path=self._stored.folder,
            )


def _hits(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> list[Hit]:
    """Hits whose ids are row numbers: fusion needs no more."""
    pairs = zip(scores.tolist(), rows.tolist(), strict=True)
    return [Hit(str(row), score, rank) for rank, (score, row) in enumerate(pairs, start=1)]


def _full_texts(documents: DocumentFile) -> Iterator[str]:
    return (document.full_text for document in documents)
