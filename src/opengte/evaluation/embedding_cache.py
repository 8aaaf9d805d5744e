"""Each model embeds each text of an evaluation once, whoever asks.

Dense and hybrid search, several splits and several metrics look at the same vectors. They are
kept in memory up to a limit and, where a folder is given, on disk by the search room's
``CachedEncoder``, so that the next run finds them too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opengte.contracts import Progress, TextEncoder
from opengte.records import Embeddings, Kind
from opengte.search.cached_encoder import CachedEncoder
from opengte.search.embedding_shards import check_vectors, texts_key


@dataclass
class Cost:
    """What embedding took.

    Attributes:
        num_texts: distinct texts asked for.
        num_embedded: those among them that no cache remembered.
        num_tokens: tokens of the distinct texts, cached or not.
        num_truncated: distinct texts that were cut.
        seconds: wall time inside the model.
        seen: lists of texts that are counted already.
    """

    num_texts: int = 0
    num_embedded: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
    seconds: float = 0.0
    seen: set[str] = field(default_factory=set, repr=False)


class EmbeddingCache:
    """Embeds texts, or remembers.

    Args:
        folder: where vectors are kept between runs; None keeps them in memory alone.
        max_bytes: vectors held in memory; the longest unused go first.
    """

    def __init__(self, folder: str | Path | None = None, *, max_bytes: int = 1 << 30) -> None:
        self._folder = None if folder is None else Path(folder)
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, Embeddings] = OrderedDict()

    def embed(
        self,
        encoder: TextEncoder,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        cost: Cost | None = None,
        progress: Progress | None = None,
    ) -> Embeddings:
        """Embeddings of ``texts`` in their order; equal texts are embedded once.

        Args:
            encoder: the model.
            texts: N texts.
            kind: which of its prompts stands in front.
            prompt: a prompt that replaces it.
            dimensions: cut vectors to so many values (Matryoshka).
            cost: what this took is added to it.
            progress: told how many distinct texts are done.
        """
        positions: dict[str, int] = {}
        rows = np.array([positions.setdefault(text, len(positions)) for text in texts], dtype=int)
        distinct = list(positions)
        key = texts_key([encoder.space.fingerprint, kind, prompt, dimensions], distinct)
        started = time.perf_counter()
        found = self._held.get(key)
        if found is None:
            found, num_embedded = self._embed(
                encoder,
                distinct,
                kind=kind,
                prompt=prompt,
                dimensions=dimensions,
                progress=progress,
            )
            if cost is not None and num_embedded:
                cost.num_embedded += num_embedded
                cost.seconds += time.perf_counter() - started
        self._hold(key, found)
        if cost is not None and key not in cost.seen:
            cost.seen.add(key)
            cost.num_texts += len(distinct)
            cost.num_tokens += int(found.num_tokens.sum())
            cost.num_truncated += int(found.truncated.sum())
        if len(distinct) == len(texts):
            return found
        return Embeddings(found.vectors[rows], found.num_tokens[rows], found.truncated[rows])

    def _embed(
        self, encoder: TextEncoder, texts: Sequence[str], **options: Any
    ) -> tuple[Embeddings, int]:
        """Vectors of distinct texts, and for how many of them the model was asked."""
        if self._folder is None:
            found = encoder.embed(texts, **options)
            dimensions = options["dimensions"] or encoder.space.dimensions
            check_vectors(found.vectors, len(texts), dimensions)
            return found, len(texts)
        remembering = CachedEncoder(encoder, self._folder)
        return remembering.embed(texts, **options), remembering.num_embedded

    def _hold(self, key: str, found: Embeddings) -> None:
        self._held[key] = found
        self._held.move_to_end(key)
        while sum(e.vectors.nbytes for e in self._held.values()) > self._max_bytes:
            self._held.popitem(last=False)
