"""Documents and pairs -> the rows that are ranked, with what the rules need to know of each.

Axes: N documents that may become negatives, M >= N rows. Rows from N on are positives of pairs
that no document of the corpus equals: they are scored (a rule compares a candidate with the
positive's score), and never chosen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from opengte.errors import DataError
from opengte.records import Document, Pair
from opengte.text.text_keys import fingerprint_texts, shingles, text_key, words

_CACHED_TEXTS = 65_536


def corpus_of_pairs(pairs: Iterable[Pair]) -> list[Document]:
    """The distinct positives as documents, in their order, with group and origin of the first."""
    documents: dict[int, Document] = {}
    for pair in pairs:
        key = text_key(pair.positive)
        if key not in documents:
            documents[key] = Document(
                id=str(len(documents)),
                text=pair.positive,
                group=pair.group,
                kind=pair.kind,
                origin=pair.origin,
            )
    return list(documents.values())


def source_file(origin: str) -> str:
    """The document part of an origin: ``json/decoder.py:12`` comes from ``json/decoder.py``."""
    head, colon, tail = origin.rpartition(":")
    return head if colon and tail.isdigit() else origin


class _Lookup:
    """Key -> rows, in two arrays: a dictionary of half a million lists costs ten times as much."""

    def __init__(self, keys: NDArray[np.int64]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def rows(self, key: int) -> list[int]:
        first, last = np.searchsorted(self._sorted, [key, key + 1])
        found: list[int] = self._order[first:last].tolist()
        return found


class MiningCorpus:
    """What is ranked, and what rules may ask of a row.

    Args:
        documents: N documents; their ids are not looked at.
        pairs: their positives are found among the documents, or added as unselectable rows.

    Attributes:
        texts: M texts as an encoder reads them (title and text joined).
        num_documents: N; rows at or past it are never negatives.
        keys, bare_keys: int64, (M,): keys of the full text and of the text without its title.
        groups, sources: int64, (M,): numbers for ``group`` and source file; -1 = unknown.
    """

    def __init__(self, documents: Sequence[Document], pairs: Iterable[Pair]) -> None:
        if not documents:
            raise DataError("the corpus to mine from holds no document")
        self.num_documents = len(documents)
        self.texts: list[str] = [document.full_text for document in documents]
        keys = [text_key(text) for text in self.texts]
        bare = [
            text_key(document.text) if document.title else key
            for document, key in zip(documents, keys, strict=True)
        ]
        self._group_numbers: dict[str, int] = {}
        self._source_numbers: dict[str, int] = {}
        groups = [self._number(document.group, self._group_numbers) for document in documents]
        sources = [
            self._number(source_file(document.origin), self._source_numbers)
            for document in documents
        ]
        known = {*keys, *bare}
        for pair in pairs:
            key = text_key(pair.positive)
            if key in known:
                continue
            known.add(key)
            self.texts.append(pair.positive)
            keys.append(key)
            bare.append(key)
            groups.append(self._number(pair.group, self._group_numbers))
            sources.append(self._number(source_file(pair.origin), self._source_numbers))
        self.keys = np.array(keys, dtype=np.int64)
        self.bare_keys = np.array(bare, dtype=np.int64)
        self.groups = np.array(groups, dtype=np.int64)
        self.sources = np.array(sources, dtype=np.int64)
        self._lookups = [_Lookup(self.keys)]
        if not np.array_equal(self.keys, self.bare_keys):
            self._lookups.append(_Lookup(self.bare_keys))
        self.words = lru_cache(_CACHED_TEXTS)(self._words)
        self.shingles = lru_cache(_CACHED_TEXTS)(self._shingles)

    def __len__(self) -> int:
        return len(self.texts)

    def rows_of(self, text: str) -> list[int]:
        """Every row that holds ``text``; empty where none does."""
        return self.rows_of_key(text_key(text))

    def rows_of_key(self, key: int) -> list[int]:
        """Every row whose text has this ``text_key``."""
        return sorted({row for lookup in self._lookups for row in lookup.rows(key)})

    def groups_of(self, pair: Pair) -> set[int]:
        """Numbers of the groups the pair belongs to: its own, and those of its positive."""
        return self._numbers_of(pair, self.groups, self._group_numbers.get(pair.group, -1))

    def sources_of(self, pair: Pair) -> set[int]:
        """Numbers of the source files the pair belongs to: its own, and its positive's."""
        own = self._source_numbers.get(source_file(pair.origin), -1)
        return self._numbers_of(pair, self.sources, own)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything a rule or a teacher can see."""
        digest = hashlib.sha256(fingerprint_texts(self.texts).encode())
        digest.update(str(self.num_documents).encode())
        for numbers in (self.bare_keys, self.groups, self.sources):
            digest.update(numbers.tobytes())
        return digest.hexdigest()

    def _numbers_of(self, pair: Pair, numbers: NDArray[np.int64], own: int) -> set[int]:
        found = {int(numbers[row]) for row in self.rows_of(pair.positive)} | {own}
        return found - {-1}

    def _words(self, row: int) -> tuple[str, ...]:
        return words(self.texts[row])

    def _shingles(self, row: int) -> frozenset[tuple[str, ...]]:
        return shingles(self.words(row))

    @staticmethod
    def _number(name: str, numbers: dict[str, int]) -> int:
        return numbers.setdefault(name, len(numbers)) if name else -1
