"""The similarities of a batch, cut into tiles: which are needed, and what each may count.

Axes: B pairs, N hard negatives, M = 2B + N texts, A anchors; I rows and J columns of one tile.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from opengte.losses.form import ContrastiveForm, Side
from opengte.losses.relations import Relations
from opengte.losses.terms import Block


class Tile(NamedTuple):
    """One rectangle of one block.

    Attributes:
        block: the block it is cut from.
        rows, columns: positions within the left and right side of the block.
        row_term, column_term: the terms this tile adds to; None where its rows (columns) are
            no anchors of this process, or the block has no such term.
        diagonal: whether it lies on the diagonal of a symmetric block, so that its rows alone
            hold both directions.
    """

    block: Block
    rows: slice
    columns: slice
    row_term: str | None
    column_term: str | None
    diagonal: bool


@dataclass(frozen=True)
class TilePlan:
    """What is to be computed for one batch.

    Attributes:
        batch_size: B.
        num_negatives: N.
        anchors: the rows of the batch whose terms are computed.
        blocks: the blocks of similarities they need.
        relations: who may be whose negative.
        form: the loss they are for.
        tile_size: rows and columns of a tile.
    """

    batch_size: int
    num_negatives: int
    anchors: range
    blocks: tuple[Block, ...]
    relations: Relations
    form: ContrastiveForm
    tile_size: int

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of all terms, each once."""
        both = (name for b in self.blocks for name in (b.row_term, b.column_term) if name)
        return tuple(dict.fromkeys(both))

    @property
    def num_logits_per_term(self) -> int:
        """An upper bound of how many logits one term sums up for one anchor."""
        return max(self.batch_size, self.num_negatives)

    def texts(self, side: Side, part: slice | range) -> slice:
        """Where a part of one side stands among the M texts."""
        start = {"query": 0, "document": self.batch_size, "negative": 2 * self.batch_size}[side]
        return slice(start + part.start, start + part.stop)

    def own(self, part: slice) -> slice:
        """Where a part of the anchors stands in what is computed here."""
        return slice(part.start - self.anchors.start, part.stop - self.anchors.start)

    def tiles(self) -> Iterator[Tile]:
        """Every tile that adds to some term; of a symmetric block the upper triangle."""
        for block in self.blocks:
            for columns in self._parts(block.right):
                for rows in self._parts(block.left):
                    if block.symmetric and rows.start > columns.start:
                        continue
                    diagonal = block.symmetric and rows == columns
                    row_term = block.row_term if self._anchored(rows) else None
                    column_term = block.column_term if self._anchored(columns) else None
                    if block.right == "negative" or diagonal:
                        column_term = None
                    if row_term or column_term:
                        yield Tile(block, rows, columns, row_term, column_term, diagonal)

    def _anchored(self, part: slice) -> bool:
        return self.anchors.start <= part.start < part.stop <= self.anchors.stop

    def _parts(self, side: Side) -> list[slice]:
        """Cut one side so that each part holds anchors only, or none."""
        if side == "negative":
            return _equal_parts(0, self.num_negatives, self.tile_size)
        edges = (0, self.anchors.start, self.anchors.stop, self.batch_size)
        ranges = itertools.pairwise(edges)
        return [part for a, b in ranges for part in _equal_parts(a, b, self.tile_size)]


def _equal_parts(start: int, stop: int, size: int) -> list[slice]:
    """Cut a range into parts of nearly equal length, none longer than ``size``."""
    count = -(-(stop - start) // size)
    edges = [start + (stop - start) * k // count for k in range(count + 1)] if count else [start]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
