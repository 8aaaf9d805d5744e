"""A teacher and pairs -> its scores or embeddings, computed once, kept, found again by text.

Labels are made block by block, in files of their own, so that a run that was killed goes on; they
are then read through sorted keys, and batches ask for them by text. Axes: N labels, E the
teacher's embedding size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.contracts import Progress, Reranker, TextEncoder
from opengte.errors import DataError
from opengte.records import Batch, Kind
from opengte.training.teacher_columns import Column, TeacherColumns

BLOCK = 2048
Keys = NDArray[np.uint64]
Asked = tuple[str, ...]
"""(side, text) for an embedding, (query, text) for a score."""


class LabelTable:
    """Values by key; keys are held in memory, values stay in their files.

    Args:
        folder: the blocks.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("keys-*.npy"))
        blocks = [np.load(file, allow_pickle=False) for file in files]
        keys = np.concatenate(blocks)
        self._rows = np.argsort(keys, kind="stable")
        self._keys = keys[self._rows]
        self._values = [
            np.load(_values_of(file), mmap_mode="r", allow_pickle=False) for file in files
        ]
        self._starts = np.cumsum([0, *map(len, blocks)])

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, asked: Sequence[Asked]) -> NDArray[np.float32]:
        """The values of ``asked``, in their order.

        Raises:
            DataError: the teacher was not asked about one of them.
        """
        keys = np.array([key_of(one) for one in asked], dtype=np.uint64)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        missing = np.flatnonzero(self._keys[places] != keys)
        if len(missing):
            raise DataError(
                f"the teacher has no label for {asked[int(missing[0])][-1][:60]!r}; its labels "
                "were made from other pairs"
            )
        rows = self._rows[places]
        blocks = np.searchsorted(self._starts, rows, side="right") - 1
        found = np.empty((len(rows), *self._values[0].shape[1:]), dtype=np.float32)
        for block in np.unique(blocks).tolist():
            here = blocks == block
            found[here] = self._values[block][rows[here] - self._starts[block]]
        return found


def make_labels(
    asked: Iterator[Asked],
    label: Callable[[Sequence[Asked]], NDArray[np.float32]],
    folder: Path,
    *,
    total: int,
    progress: Progress | None = None,
) -> LabelTable:
    """Ask the teacher about everything that is not labelled yet.

    Args:
        asked: the same, in the same order, in every run of one folder.
        label: some of them -> their values.
        folder: the blocks, two files each.
        total: how many are asked, for progress.
        progress: told how many are labelled.
    """
    done = number = 0
    while block := list(islice(asked, BLOCK)):
        file = folder / f"keys-{number:06d}.npy"
        if not file.is_file():
            with atomic_file(_values_of(file)) as stream:
                np.save(stream, label(block).astype(np.float32), allow_pickle=False)
            # Last: a block whose keys stand is whole.
            with atomic_file(file) as stream:
                keys = np.array([key_of(one) for one in block], dtype=np.uint64)
                np.save(stream, keys, allow_pickle=False)
        done, number = done + len(block), number + 1
        if progress is not None:
            progress(done, total)
    return LabelTable(folder)


def key_of(asked: Asked) -> int:
    """Names what was asked."""
    content = "\0".join(asked).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def label_embeddings(encoder: TextEncoder) -> Callable[[Sequence[Asked]], NDArray[np.float32]]:
    """(side, text) -> the encoder's vectors."""

    def label(asked: Sequence[Asked]) -> NDArray[np.float32]:
        vectors = np.zeros((len(asked), encoder.space.dimensions), dtype=np.float32)
        for side in ("query", "document"):
            rows = [row for row, one in enumerate(asked) if one[0] == side]
            if rows:
                kind: Kind = "query" if side == "query" else "document"
                vectors[rows] = encoder.encode([asked[row][1] for row in rows], kind=kind)
        return vectors

    return label


def label_similarities(encoder: TextEncoder) -> Callable[[Sequence[Asked]], NDArray[np.float32]]:
    """(query, text) -> the product of the encoder's vectors."""

    def label(asked: Sequence[Asked]) -> NDArray[np.float32]:
        queries, rows = np.unique([query for query, _ in asked], return_inverse=True)
        first = encoder.encode(queries.tolist(), kind="query")[rows.reshape(-1)]
        second = encoder.encode([text for _, text in asked], kind="document")
        return _products(first, second)

    return label


def _products(first: Column, second: Column) -> Column:
    return np.asarray((first * second).sum(axis=1), dtype=np.float32)


def label_judgements(reranker: Reranker) -> Callable[[Sequence[Asked]], NDArray[np.float32]]:
    """(query, text) -> the reranker's score."""

    def label(asked: Sequence[Asked]) -> NDArray[np.float32]:
        by_query: dict[str, list[int]] = {}
        for row, (query, _) in enumerate(asked):
            by_query.setdefault(query, []).append(row)
        scores = np.zeros(len(asked), dtype=np.float32)
        for query, rows in by_query.items():
            scores[rows] = reranker.score(query, [asked[row][1] for row in rows])
        return scores

    return label


class TaughtScores:
    """Batches -> the teacher's scores of their pairs and negatives.

    Args:
        table: by (query, text).
    """

    def __init__(self, table: LabelTable) -> None:
        self._table = table

    def __call__(self, batch: Batch) -> TeacherColumns:
        """See ``Teach``."""
        queries = bare(batch.queries, batch.query_prompt_characters)
        positives = bare(batch.positives, batch.document_prompt_characters)
        negatives = bare_negatives(batch)
        asked = [
            (query, text) for query, texts in zip(queries, negatives, strict=True) for text in texts
        ]
        return TeacherColumns(
            scores=self._table.find(list(zip(queries, positives, strict=True))),
            negative_scores=self._table.find(asked) if asked else None,
        )


class TaughtEmbeddings:
    """Batches -> the teacher's embeddings of both sides, and its scores if they are wanted.

    Args:
        table: by (side, text).
        with_scores: products of its embeddings are its scores; the table knows hard negatives
            as documents then.
    """

    def __init__(self, table: LabelTable, *, with_scores: bool = False) -> None:
        self._table = table
        self._with_scores = with_scores

    def __call__(self, batch: Batch) -> TeacherColumns:
        """See ``Teach``."""
        queries = self._side("query", bare(batch.queries, batch.query_prompt_characters))
        positives = bare(batch.positives, batch.document_prompt_characters)
        documents = self._side("document", positives)
        if not self._with_scores:
            return TeacherColumns(queries=queries, documents=documents)
        negatives = bare_negatives(batch)
        texts = [text for of_row in negatives for text in of_row]
        anchors = np.repeat(queries, [len(of_row) for of_row in negatives], axis=0)
        return TeacherColumns(
            scores=_products(queries, documents),
            negative_scores=_products(anchors, self._side("document", texts)) if texts else None,
            queries=queries,
            documents=documents,
        )

    def _side(self, side: str, texts: Sequence[str]) -> Column:
        return self._table.find([(side, text) for text in texts])


def bare(texts: Sequence[str], prompts: int | Sequence[int]) -> list[str]:
    """Texts without the student's prompts: the teacher has its own."""
    if isinstance(prompts, int):
        return [text[prompts:] for text in texts]
    return [text[number:] for text, number in zip(texts, prompts, strict=True)]


def bare_negatives(batch: Batch) -> list[list[str]]:
    """The same of each row's hard negatives."""
    given = batch.document_prompt_characters
    numbers = [given] * len(batch) if isinstance(given, int) else list(given)
    return [
        [text[number:] for text in texts]
        for number, texts in zip(numbers, batch.negatives, strict=True)
    ]


def _values_of(keys: Path) -> Path:
    return keys.with_name(keys.name.replace("keys-", "values-"))
