"""The rows of several sources -> the columns of one batch, in the batch's order."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from opengte.data.shingles import mix


class Assembly:
    """Columns of a batch while sources add their rows, each with its place."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.positives: list[str] = []
        self.negatives: list[tuple[str, ...]] = []
        self.scores = np.zeros(0)
        self.query_prompts = np.zeros(0, np.int64)
        self.document_prompts = np.zeros(0, np.int64)
        self._places: list[NDArray[np.int64]] = []
        self._numbers: list[tuple[NDArray[np.float64], int, int]] = []

    @property
    def num_sources(self) -> int:
        """How many sources have added rows."""
        return len(self._places)

    def add(
        self,
        places: NDArray[np.int64],
        queries: list[str],
        positives: list[str],
        negatives: list[tuple[str, ...]],
        scores: NDArray[np.float64] | None,
        prompts: tuple[str, str],
    ) -> None:
        """Add rows of one source, with its prompts in front of the texts.

        Args:
            places: where in the batch each row goes.
            queries: texts without prompts, and so the others.
            positives: the texts that answer them.
            negatives: hard negatives of each.
            scores: None where the source has none.
            prompts: of queries and of documents.
        """
        query_prompt, document_prompt = prompts
        if query_prompt:
            queries = [query_prompt + text for text in queries]
        if document_prompt:
            positives = [document_prompt + text for text in positives]
            negatives = [tuple(document_prompt + text for text in row) for row in negatives]
        self.queries += queries
        self.positives += positives
        self.negatives += negatives
        self._places.append(places)
        scores = np.full(len(places), np.nan) if scores is None else scores
        self._numbers.append((scores, len(query_prompt), len(document_prompt)))

    def put_in_order(self) -> None:
        """Order the columns by the places of their rows."""
        counts = [len(places) for places in self._places]
        self.scores = np.concatenate([scores for scores, _, _ in self._numbers])
        self.query_prompts = np.repeat([query for _, query, _ in self._numbers], counts)
        self.document_prompts = np.repeat([document for _, _, document in self._numbers], counts)
        if self.num_sources == 1:  # its rows came in order
            return
        order = np.empty(len(self.queries), np.int64)
        order[np.concatenate(self._places)] = np.arange(len(order))
        self.scores = self.scores[order]
        self.query_prompts = self.query_prompts[order]
        self.document_prompts = self.document_prompts[order]
        self.queries = _ordered(self.queries, order)
        self.positives = _ordered(self.positives, order)
        if any(self.negatives):
            self.negatives = _ordered(self.negatives, order)


_Value = TypeVar("_Value")


def _ordered(values: list[_Value], order: NDArray[np.int64]) -> list[_Value]:
    return list(map(values.__getitem__, order.tolist()))


def choose_negatives(
    negatives: list[tuple[str, ...]],
    rows: NDArray[np.int64],
    epochs: NDArray[np.int64],
    number: int,
    seed: int,
) -> None:
    """Keep ``number`` negatives of each row, the next ones in the next epoch; in place.

    Args:
        negatives: of B rows.
        rows: their numbers in the source, (B,).
        epochs: how often each had been used before, (B,).
        number: how many to keep.
        seed: decides where each row begins.
    """
    key = np.array([seed], np.uint64)
    start = (mix(key ^ mix(rows.astype(np.uint64))) >> np.uint64(33)).astype(np.int64)
    start += epochs * number
    for i, begin in enumerate(start.tolist()):
        given = negatives[i]
        if len(given) > number:
            negatives[i] = tuple(given[(begin + k) % len(given)] for k in range(number))
