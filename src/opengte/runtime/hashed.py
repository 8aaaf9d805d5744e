"""Texts -> vectors by hashing words and character n-grams: an encoder without a model.

``HashEncoder`` keeps every promise of the ``TextEncoder`` socket (a named space, prompts,
truncation that is told, Matryoshka sizes, the same vector whatever the neighbours), costs no
download and learns nothing. Tests and examples use it as a real encoder; as a baseline it says
what spelling alone finds. Axes: N texts, D embedding size.

Source: signed feature hashing, Weinberger et al. 2009 (arXiv:0902.2206), over words and the
character n-grams of fastText (Bojanowski et al. 2017, arXiv:1607.04606).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress, TextEncoder
from opengte.errors import ConfigError, UserError
from opengte.records import Embeddings, EmbeddingSpace, Kind, Truncate

# Bumped whenever a vector moves, so that the space changes its name with it.
_ALGORITHM = "hash-1"
# A CJK character is a word of its own; a run of other letters is cut at camelCase humps.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W\d_{_CJK}]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NGRAM_SIZES = (3, 4, 5)
_NGRAM_WEIGHT = 0.5
_FEATURES_KEPT = 100_000


class HashEncoder(TextEncoder):
    """A deterministic ``TextEncoder`` that needs no weights.

    Args:
        dimensions: D, at least 1.
        max_tokens: words read of a text, its prompt included; the rest is cut and reported.
        query_prompt, document_prompt: put before each side when ``kind`` is given.
        matryoshka_dimensions: sizes to which a vector may be cut. Every prefix of a hashed
            vector is a hashed vector itself, so any sizes below D may be named.
        seed: another seed is another space.
    """

    def __init__(
        self,
        dimensions: int = 256,
        *,
        max_tokens: int = 512,
        query_prompt: str = "",
        document_prompt: str = "",
        matryoshka_dimensions: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        if dimensions < 1:
            raise ConfigError(f"dimensions must be >= 1, got {dimensions}")
        if max_tokens < 1:
            raise ConfigError(f"max_tokens must be >= 1, got {max_tokens}")
        if any(not 1 <= size <= dimensions for size in matryoshka_dimensions):
            raise ConfigError(
                f"matryoshka_dimensions must lie in 1..{dimensions}, "
                f"got {tuple(matryoshka_dimensions)}"
            )
        self._salt = f"{_ALGORITHM}/{seed}/".encode()
        self._features: dict[str, tuple[NDArray[np.intp], NDArray[np.float32]]] = {}
        self._space = EmbeddingSpace(
            model="hash-encoder",
            revision=hashlib.sha256(self._salt).hexdigest(),
            pooling="sum",
            dimensions=dimensions,
            normalised=True,
            max_tokens=max_tokens,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            matryoshka_dimensions=tuple(matryoshka_dimensions),
        )

    @property
    def space(self) -> EmbeddingSpace:
        """The space its vectors live in."""
        return self._space

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: Truncate = "end",
        progress: Progress | None = None,
    ) -> Embeddings:
        """Embed ``texts``; see ``TextEncoder.embed``."""
        size = self._checked_dimensions(dimensions)
        prompt_words = list(words(self._prompt(kind, prompt)))
        vectors = np.zeros((len(texts), self.space.dimensions), dtype=np.float32)
        num_tokens = np.zeros(len(texts), dtype=np.int64)
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for row, text in enumerate(texts):
            read, truncated[row] = self._read(text, prompt_words, truncate, row)
            num_tokens[row] = len(read)
            vectors[row] = self._sum_of_words(read)
            if progress is not None:
                progress(row + 1, len(texts))
        return Embeddings(_normalised(vectors[:, :size]), num_tokens, truncated)

    def _checked_dimensions(self, dimensions: int | None) -> int:
        known = self.space.matryoshka_dimensions
        if dimensions is None or dimensions == self.space.dimensions or dimensions in known:
            return dimensions or self.space.dimensions
        sizes = ", ".join(map(str, sorted({*known, self.space.dimensions})))
        raise UserError(
            f"dimensions must be one the model was trained for ({sizes}), got {dimensions}"
        )

    def _prompt(self, kind: Kind | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        own = {"query": self.space.query_prompt, "document": self.space.document_prompt}
        return own[kind] if kind else ""

    def _read(
        self, text: str, prompt_words: list[str], truncate: Truncate, row: int
    ) -> tuple[list[str], bool]:
        """The words that are read, the prompt's first, and whether some were left out."""
        text_words = list(words(text))
        room = max(self.space.max_tokens - len(prompt_words), 0)
        if len(text_words) <= room:
            return prompt_words + text_words, False
        if truncate == "none":
            raise UserError(
                f"text {row} has {len(prompt_words) + len(text_words)} tokens, the model reads "
                f"{self.space.max_tokens}; shorten it, or let it be cut with truncate='end'"
            )
        kept = text_words[:room] if truncate == "end" else text_words[len(text_words) - room :]
        return prompt_words + kept, True

    def _sum_of_words(self, read: list[str]) -> NDArray[np.float32]:
        # A text without any word still has a direction: that of "no word".
        counts = Counter(read or [""])
        features = [self._word_features(word) for word in counts]
        positions = np.concatenate([positions for positions, _ in features])
        scale = np.repeat(np.sqrt(list(counts.values())), [len(part) for part, _ in features])
        weights = np.concatenate([weights for _, weights in features]) * scale
        # bincount, because two features may share a position.
        sums = np.bincount(positions, weights, minlength=self.space.dimensions)
        return sums.astype(np.float32)

    def _word_features(self, word: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Positions in the vector and signed weights of a word and its n-grams."""
        known = self._features.get(word)
        if known is not None:
            return known
        names = [f"w:{word}", *(f"n:{gram}" for gram in _ngrams(word))]
        hashes = np.array([self._hash(name) for name in names], dtype=np.uint64)
        signs = np.where(hashes >> np.uint64(63), np.float32(1), np.float32(-1))
        weights = np.full(len(names), _NGRAM_WEIGHT, dtype=np.float32)
        weights[0] = 1.0
        positions = (hashes % np.uint64(self.space.dimensions)).astype(np.intp)
        if len(self._features) >= _FEATURES_KEPT:
            self._features.clear()
        self._features[word] = positions, signs * weights
        return self._features[word]

    def _hash(self, name: str) -> int:
        digest = hashlib.blake2b(self._salt + name.encode("utf-8", "surrogatepass"), digest_size=8)
        return int.from_bytes(digest.digest(), "little")


def words(text: str) -> Iterator[str]:
    """The lower-cased words of ``text``: camelCase and snake_case cut, CJK by character."""
    for match in _WORD.finditer(text):
        for part in _HUMP.split(match.group()):
            yield part.lower()


def _ngrams(word: str) -> Iterator[str]:
    """Character n-grams with the word's ends marked: ``<parse>`` -> ``<pa``, ``par``, ..."""
    marked = f"<{word}>"
    for size in _NGRAM_SIZES:
        for start in range(len(marked) - size + 1):
            yield marked[start : start + size]


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row that hashing cancelled to zero becomes the first unit vector."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    out = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    out[lengths[:, 0] == 0, 0] = 1.0
    return out
