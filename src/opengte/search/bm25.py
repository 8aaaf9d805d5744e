"""Texts -> an index that finds them by their words: BM25 as Lucene scores it.

Weights come from bm25s (Lucene variant, exact document lengths), once, when the index is built;
a search is then one sparse product of query words and stored weights. Symbols follow Robertson
& Zaragoza 2009: k1 saturation of the term frequency, b normalisation by length.
Axes: N texts, V words, Q queries.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file, write_json
from opengte.errors import ConfigError, SearchIndexError
from opengte.records import Hit
from opengte.search.word_tokens import make_tokenizer

_MAX_PRODUCT = 1 << 22  # matching (query, text) pairs held at once: 48 MiB


class BM25Index:
    """N texts that can be found by their words. Make one with ``build`` or ``load``.

    A text that shares no word with a query is never a hit, so fewer than k may come back. Equal
    scores are ordered by position: the text that was given first wins.
    """

    def __init__(
        self,
        *,
        weights: NDArray[np.float32],
        texts: NDArray[np.int32],
        starts: NDArray[np.int64],
        vocabulary: Mapping[str, int],
        ids: Sequence[str],
        settings: Mapping[str, Any],
    ) -> None:
        self._weights = weights
        self._texts = texts
        self._starts = starts
        self._vocabulary = vocabulary
        self._settings = dict(settings)
        self._tokenize = make_tokenizer(self._settings["tokenizer"])
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokenizer(self) -> str:
        """Name of the tokenizer that texts and queries go through."""
        return str(self._settings["tokenizer"])

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        *,
        ids: Sequence[str] | None = None,
        tokenizer: str = "words",
        k1: float = 1.5,
        b: float = 0.75,
    ) -> BM25Index:
        """Index ``texts``, read once; beside the index, memory holds four bytes a token.

        Args:
            texts: N texts, in the order that ties follow.
            ids: N names for the hits; None numbers the texts ``"0"``, ``"1"``, ...
            tokenizer: ``words``, ``words:LANGUAGE``, ``code`` or ``chinese``.
            k1: saturation, >= 0; 1.5 as in bm25s.
            b: share of length normalisation, in [0, 1].

        Raises:
            ConfigError: a setting is out of range, or ``ids`` has another length than ``texts``.
            MissingExtraError: the tokenizer needs a package that is not installed.
        """
        if not (k1 >= 0 and 0 <= b <= 1):
            raise ConfigError(f"BM25 needs k1 >= 0 and b in [0, 1]; got k1={k1}, b={b}")
        rows, vocabulary = _count_words(texts, make_tokenizer(tokenizer))
        if ids is not None and len(ids) != len(rows):
            raise ConfigError(f"got {len(ids)} ids for {len(rows)} texts")
        weights, documents, starts = _weigh(rows, len(vocabulary), k1=k1, b=b)
        return cls(
            weights=weights,
            texts=documents,
            starts=starts,
            vocabulary=vocabulary,
            ids=[str(row) for row in range(len(rows))] if ids is None else list(ids),
            settings={"tokenizer": tokenizer, "k1": k1, "b": b},
        )

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The at most k best texts of each query, best first."""
        results = []
        for scores, rows in self.search_rows(queries, k):
            pairs = zip(scores.tolist(), rows.tolist(), strict=True)
            results.append(
                [Hit(self.ids[row], score, rank) for rank, (score, row) in enumerate(pairs, 1)]
            )
        return results

    def search_rows(
        self, queries: Sequence[str], k: int
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """For each query its scores and the positions of the texts, as in ``search``."""
        from scipy.sparse import csr_matrix

        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        by_word = csr_matrix(
            (self._weights, self._texts, self._starts),
            shape=(len(self._starts) - 1, len(self)),
            copy=False,
        )
        for block in self._blocks([self._known_words(query) for query in queries]):
            found = (self._as_matrix(block) @ by_word).tocsr()
            for start, stop in zip(found.indptr, found.indptr[1:], strict=False):
                yield _best(found.data[start:stop], found.indices[start:stop], k)

    def save(self, folder: str | Path) -> None:
        """Write the index below ``folder`` as NumPy and JSON files, no pickle."""
        folder = Path(folder)
        arrays: dict[str, NDArray[Any]] = {
            "weights": self._weights,
            "texts": self._texts,
            "starts": self._starts,
        }
        for name, values in arrays.items():
            with atomic_file(folder / f"{name}.npy") as stream:
                np.save(stream, values, allow_pickle=False)
        write_json(folder / "words.json", list(self._vocabulary))
        write_json(folder / "ids.json", list(self.ids))
        write_json(folder / "settings.json", self._settings)

    @classmethod
    def load(cls, folder: str | Path, *, ids: Sequence[str] | None = None) -> BM25Index:
        """Open what ``save`` wrote; the weights stay on disk until a query needs them.

        Args:
            folder: where ``save`` wrote.
            ids: N names that replace the stored ones.

        Raises:
            SearchIndexError: a file is absent or damaged; the message names it.
            MissingExtraError: its tokenizer needs a package that is not installed.
        """
        folder = Path(folder)
        settings = _read_json(folder / "settings.json", dict)
        words = _read_json(folder / "words.json", list)
        names = _read_json(folder / "ids.json", list) if ids is None else ids
        index = cls(
            weights=_read_array(folder / "weights.npy", np.float32),
            texts=_read_array(folder / "texts.npy", np.int32),
            starts=_read_array(folder / "starts.npy", np.int64),
            vocabulary={word: number for number, word in enumerate(words)},
            ids=names,
            settings=settings,
        )
        index._check(folder)
        return index

    def _check(self, folder: Path) -> None:
        consistent = (
            len(self._starts) == len(self._vocabulary) + 1
            and len(self._weights) == len(self._texts) == int(self._starts[-1])
            and (len(self._texts) == 0 or int(self._texts.max()) < len(self))
        )
        if not consistent:
            raise SearchIndexError(
                "the files of this BM25 index do not belong together; build it again", path=folder
            )

    def _known_words(self, query: str) -> list[int]:
        numbers = (self._vocabulary.get(word) for word in self._tokenize(query))
        return [number for number in numbers if number is not None]

    def _blocks(self, queries: list[list[int]]) -> Iterator[list[list[int]]]:
        """Runs of queries whose matches fit into memory together."""
        lengths = np.diff(self._starts)
        block: list[list[int]] = []
        total = 0
        for words in queries:
            matches = int(lengths[words].sum()) if words else 0
            if block and total + matches > _MAX_PRODUCT:
                yield block
                block, total = [], 0
            block.append(words)
            total += matches
        if block:
            yield block

    def _as_matrix(self, block: list[list[int]]) -> Any:
        from scipy.sparse import csr_matrix

        words = np.array([word for query in block for word in query], dtype=np.int64)
        starts = np.cumsum([0, *(len(query) for query in block)])
        ones = np.ones(len(words), dtype=np.float32)
        # A word that a query repeats counts as often: duplicates are summed by the product.
        return csr_matrix((ones, words, starts), shape=(len(block), len(self._starts) - 1))


class TokenRows:
    """Token numbers of N texts in one flat array, handed out as lists, one text at a time."""

    def __init__(self) -> None:
        self._numbers = array("i")
        self._ends = array("q", [0])

    def append(self, numbers: Iterable[int]) -> None:
        """Add the next text."""
        self._numbers.extend(numbers)
        self._ends.append(len(self._numbers))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in zip(self._ends, self._ends[1:], strict=False):
            yield self._numbers[start:end].tolist()

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts together."""
        return len(self._numbers)


def _count_words(
    texts: Iterable[str], tokenize: Callable[[str], list[str]]
) -> tuple[TokenRows, dict[str, int]]:
    rows, vocabulary = TokenRows(), dict[str, int]()
    for text in texts:
        rows.append([vocabulary.setdefault(word, len(vocabulary)) for word in tokenize(text)])
    return rows, vocabulary


def _weigh(
    rows: TokenRows, num_words: int, *, k1: float, b: float
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]:
    """Weights and texts, grouped by word, and where each word starts (V + 1)."""
    if rows.num_tokens == 0:
        # bm25s would divide by a mean length of zero.
        nothing = np.zeros(0, dtype=np.float32)
        return nothing, nothing.astype(np.int32), np.zeros(num_words + 1, dtype=np.int64)
    import bm25s

    weigher = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy", csc_backend="scipy")
    index = weigher.build_index_from_ids(
        unique_token_ids=list(range(num_words)), corpus_token_ids=rows, show_progress=False
    )
    return (
        np.asarray(index["data"], dtype=np.float32),
        np.asarray(index["indices"], dtype=np.int32),
        np.asarray(index["indptr"], dtype=np.int64),
    )


def _best(
    scores: NDArray[np.float32], rows: NDArray[np.int32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if len(scores) > k:
        cut = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = scores >= cut
        scores, rows = scores[kept], rows[kept]
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order].astype(np.int64)


def _read_json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SearchIndexError(
            "this file of a BM25 index cannot be read; build the index again", path=path
        ) from error
    if not isinstance(value, kind):
        raise SearchIndexError(
            f"expected a JSON {kind.__name__} in this file of a BM25 index; build it again",
            path=path,
        )
    return value


def _read_array(path: Path, dtype: type) -> NDArray[Any]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SearchIndexError(
            "this file of a BM25 index cannot be read; build the index again", path=path
        ) from error
    if values.dtype != dtype or values.ndim != 1:
        raise SearchIndexError(
            f"expected a list of {np.dtype(dtype)} in this file of a BM25 index, "
            f"found {values.dtype} of shape {values.shape}; build it again",
            path=path,
        )
    array_values: NDArray[Any] = values
    return array_values
