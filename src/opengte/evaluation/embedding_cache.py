"""Each model embeds each text of an evaluation once, whoever asks.

Dense and hybrid search, several splits and several metrics look at the same vectors. They are
kept in memory up to a limit and, where a folder is given, on disk under the name of the embedding
space, the prompt and the texts, so that the next run finds them too.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from opengte.atomic import atomic_file
from opengte.contracts import Progress, TextEncoder
from opengte.records import Embeddings, Kind
from opengte.search.embedding_shards import check_vectors


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
        key = _key([encoder.space.fingerprint, kind, prompt, dimensions], distinct)
        started = time.perf_counter()
        found = self._recall(key)
        if found is None:
            found = encoder.embed(
                distinct, kind=kind, prompt=prompt, dimensions=dimensions, progress=progress
            )
            check_vectors(found.vectors, len(distinct), dimensions or encoder.space.dimensions)
            self._remember(key, found)
            if cost is not None:
                cost.num_embedded += len(distinct)
                cost.seconds += time.perf_counter() - started
        if cost is not None and key not in cost.seen:
            cost.seen.add(key)
            cost.num_texts += len(distinct)
            cost.num_tokens += int(found.num_tokens.sum())
            cost.num_truncated += int(found.truncated.sum())
        if len(distinct) == len(texts):
            return found
        return Embeddings(found.vectors[rows], found.num_tokens[rows], found.truncated[rows])

    def _recall(self, key: str) -> Embeddings | None:
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
                found = Embeddings(stored["vectors"], stored["num_tokens"], stored["truncated"])
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None  # a damaged cache file is embedded again and replaced
        self._hold(key, found)
        return found

    def _remember(self, key: str, found: Embeddings) -> None:
        self._hold(key, found)
        path = self._path(key)
        if path is None:
            return
        with atomic_file(path) as stream:
            np.savez(
                stream,
                vectors=found.vectors,
                num_tokens=found.num_tokens,
                truncated=found.truncated,
            )

    def _hold(self, key: str, found: Embeddings) -> None:
        self._held[key] = found
        while sum(e.vectors.nbytes for e in self._held.values()) > self._max_bytes:
            self._held.popitem(last=False)

    def _path(self, key: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{key}.npz"


def _key(facts: Sequence[object], texts: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(facts).encode())
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:32]
