"""What the rows and the columns of a tile must not count.

Axes: A anchors; I rows and J columns of one tile.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from opengte.losses.form import Side
from opengte.losses.products import BFloat16Products, ExactProducts
from opengte.losses.tiles import Tile, TilePlan


class Screen(NamedTuple):
    """The false-negative rule: what is more similar to a query than its document is left out.

    Attributes:
        limits: the largest logit each anchor tolerates, (A,).
        on_documents: whether the rule holds in the document-document block as well.
    """

    limits: Float[Tensor, " A"]
    on_documents: bool


class _Directed(NamedTuple):
    """A tile as its anchors see it: their side of it first."""

    left: Side
    right: Side
    anchors: slice
    texts: slice
    keep_answers: bool


class TileMasks:
    """The masks of the tiles of one batch, made when a tile asks for its own.

    Args:
        plan: the tiles.
        products: makes the logits that the false-negative rule looks at.
        screen: the false-negative rule, or None.
    """

    def __init__(
        self, plan: TilePlan, products: ExactProducts | BFloat16Products, screen: Screen | None
    ) -> None:
        self.plan, self.products, self.screen = plan, products, screen

    def of(
        self, tile: Tile, logits: Float[Tensor, "I J"], reference: float
    ) -> tuple[Bool[Tensor, "I J"] | None, Bool[Tensor, "I J"] | None]:
        """What the rows, and what the columns, must not count; one object where that is equal.

        Args:
            tile: the tile.
            logits: its logits, less ``reference``.
            reference: what was subtracted from them.
        """
        left, right, form = tile.block.left, tile.block.right, self.plan.form
        keep_rows = tile.row_term is not None and form.keeps_answers(tile.row_term)
        keep_columns = tile.column_term is not None and form.keeps_answers(tile.column_term)
        if self.screen is None and not keep_rows and not keep_columns:
            excluded = self.plan.relations.excluded(left, right, tile.rows, tile.columns)
            return excluded, excluded
        by_row = by_column = None
        if tile.row_term:
            side = _Directed(left, right, tile.rows, tile.columns, keep_rows)
            by_row = self._of_anchors(side, logits, reference)
        if tile.column_term:
            side = _Directed(right, left, tile.columns, tile.rows, keep_columns)
            by_column = self._of_anchors(side, logits.T, reference)
        return by_row, None if by_column is None else by_column.T

    def _of_anchors(
        self, side: _Directed, logits: Tensor, reference: float
    ) -> Bool[Tensor, "I J"] | None:
        seen = limits = None
        if self.screen is not None:
            seen = self._seen_by_rule(side, logits, reference)
            limits = self.screen.limits[self.plan.own(side.anchors)] - reference
        return self.plan.relations.excluded(
            side.left,
            side.right,
            side.anchors,
            side.texts,
            keep_answers=side.keep_answers,
            seen=seen,
            limits=limits,
        )

    def _seen_by_rule(self, side: _Directed, logits: Tensor, reference: float) -> Tensor | None:
        """The logits that the false-negative rule looks at: the query's, where there is one."""
        assert self.screen is not None
        if "query" in (side.left, side.right):
            return logits
        if not self.screen.on_documents:
            return None
        queries = self.plan.texts("query", side.anchors)
        return self.products.logits(queries, self.plan.texts(side.right, side.texts), reference)
