"""Pairs and mined rows -> pairs with negatives, put together one at a time.

Axes: N pairs, n negatives asked for. A million pairs with seven negatives are 80 MB of numbers
here, and gigabytes as texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from opengte.mining.blocks import NO_ROW
from opengte.records import Pair


class MinedPairs(Sequence[Pair]):
    """The pairs with their negatives, put together when they are asked for.

    Negatives that a pair came with stay in front and are not counted; ``negative_scores`` then
    stays empty, for they have no score on the teacher's scale.

    Attributes:
        given: the pairs as they came.
        texts: what ``rows`` mean.
        rows: int64, (N, n): the mined negatives, best first; -1 where there are fewer.
        scores: float32, (N, n): the teacher's scores; 0 where there is no row.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        texts: Sequence[str],
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
    ) -> None:
        self.given = pairs
        self.texts = texts
        self.rows = rows
        self.scores = scores

    def __len__(self) -> int:
        return len(self.given)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        pair = self.given[index]
        (found,) = np.nonzero(self.rows[index] != NO_ROW)
        if len(found) == 0:
            return pair
        negatives = tuple(self.texts[row] for row in self.rows[index][found].tolist())
        if pair.negatives:
            return replace(pair, negatives=pair.negatives + negatives, negative_scores=())
        scores = tuple(self.scores[index][found].tolist())
        return replace(pair, negatives=negatives, negative_scores=scores)

    def __iter__(self) -> Iterator[Pair]:
        return (self[i] for i in range(len(self)))
