"""Tiles of logits -> the log of each anchor's sum, and the gradient that flows back.

Axes: A anchors, T terms; I rows and J columns of one tile. Logits are in units of log 2.

Two ways that agree wherever both can be trusted: one reference for all logits, or a running
maximum for each anchor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.losses.form import ProductType
from opengte.losses.scaled_texts import ScaledTexts
from opengte.losses.tile_masks import Screen, TileMasks
from opengte.losses.tiles import Tile, TilePlan

_Method = Literal["shared_reference", "running_maximum"]
_METHODS: tuple[_Method, ...] = ("shared_reference", "running_maximum")
"""Tried in this order; the last one needs no check."""


class TileSums:
    """Sums over the tiles of one batch.

    Args:
        plan: the tiles.
        texts: the vectors.
        kind: how products are made.
        screen: the false-negative rule, or None.
    """

    def __init__(
        self, plan: TilePlan, texts: ScaledTexts, kind: ProductType, screen: Screen | None
    ) -> None:
        self.plan, self.texts = plan, texts
        self.products = texts.products(kind)
        self.masks = TileMasks(plan, self.products, screen)
        self.places = {name: place for place, name in enumerate(plan.terms)}
        wide = texts.vectors.dtype == torch.float64
        # The largest sum has this many addends; it must stay below 2^highest.
        addends = math.log2(max(2, plan.num_logits_per_term))
        highest = 1022.0 if wide else 126.0
        precision = 52.0 if wide else 24.0
        self.reference = texts.largest_logit - (highest - addends)
        # Addends below 2^-highest are lost; a sum above this does not miss them.
        self.floor = self.reference - highest + addends + precision
        self.always_in_range = texts.smallest_logit > self.floor

    def log_sums(self) -> tuple[Float[Tensor, "T A"], _Method]:
        """Log2 of every term, -inf where nothing is summed, and the method that found it."""
        if "shared_reference" in _METHODS:
            shared = self._by_shared_reference()
            if self.always_in_range or bool((shared > self.floor).all()):
                return shared, "shared_reference"
        return self._by_running_maximum(), "running_maximum"

    def _by_shared_reference(self) -> Float[Tensor, "T A"]:
        sums = self._empty(0.0)
        for tile, logits in self._tiles(self.reference):
            by_row, by_column = self.masks.of(tile, logits, self.reference)
            powers = logits.exp2_()
            if by_row is by_column:
                powers, by_row, by_column = _without(powers, by_row), None, None
            if tile.row_term:
                own = self.plan.own(tile.rows)
                self._term(sums, tile.row_term)[own] += _filtered(powers, by_row).sum(1)
            if tile.column_term:
                own = self.plan.own(tile.columns)
                self._term(sums, tile.column_term)[own] += _filtered(powers, by_column).sum(0)
        return sums.log2_().add_(self.reference)

    def _by_running_maximum(self) -> Float[Tensor, "T A"]:
        peaks, sums = self._empty(-math.inf), self._empty(0.0)
        for tile, logits in self._tiles(0.0):
            by_row, by_column = self.masks.of(tile, logits, 0.0)
            for term, part, excluded, values in (
                (tile.row_term, tile.rows, by_row, logits),
                (tile.column_term, tile.columns, by_column, logits.T),
            ):
                if term is None:
                    continue
                if excluded is not None:
                    excluded = excluded if values is logits else excluded.T
                    values = values.masked_fill(excluded, -math.inf)
                own = self.plan.own(part)
                _add_online(self._term(peaks, term)[own], self._term(sums, term)[own], values)
        return sums.log2_() + peaks

    def add_gradient(
        self, log_sums: Float[Tensor, "T A"], gradient: Float[Tensor, "T A"], method: _Method
    ) -> None:
        """Add to ``texts.gradient`` what ``gradient``, by the log2 sums, means for the vectors."""
        shared = method == "shared_reference"
        reference = self.reference if shared else 0.0
        if shared:
            shift = torch.exp2(reference - log_sums)
            gradient = torch.where(log_sums == -math.inf, 0.0, gradient * shift)
        for tile, logits in self._tiles(reference):
            by_row, by_column = self.masks.of(tile, logits, reference)
            if shared:
                weights = self._shared_weights(tile, logits.exp2_(), by_row, by_column, gradient)
            else:
                weights = self._own_weights(tile, logits, by_row, by_column, gradient, log_sums)
            self._scatter(tile, weights)

    def _shared_weights(
        self,
        tile: Tile,
        powers: Tensor,
        by_row: Tensor | None,
        by_column: Tensor | None,
        factors: Tensor,
    ) -> Float[Tensor, "I J"]:
        row, column = self._factors(tile, factors)
        if column is None:
            assert row is not None
            return _without(powers, by_row).mul_(row)
        if row is None:
            return _without(powers, by_column).mul_(column)
        if by_row is by_column:
            return _without(powers, by_row).mul_(row + column)
        return (_filtered(powers, by_row) * row).add_(_without(powers, by_column).mul_(column))

    def _own_weights(
        self,
        tile: Tile,
        logits: Tensor,
        by_row: Tensor | None,
        by_column: Tensor | None,
        gradient: Tensor,
        log_sums: Tensor,
    ) -> Float[Tensor, "I J"]:
        finite = torch.where(log_sums == -math.inf, math.inf, log_sums)
        total = torch.zeros_like(logits)
        for side, excluded in enumerate((by_row, by_column)):
            factor = self._factors(tile, gradient)[side]
            level = self._factors(tile, finite)[side]
            if factor is not None and level is not None:
                total += _without(torch.exp2(logits - level), excluded) * factor
        return total

    def _factors(self, tile: Tile, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Values of the anchors in the rows, as a column, and of those in the columns, as a row."""
        row = column = None
        if tile.row_term:
            row = self._term(values, tile.row_term)[self.plan.own(tile.rows), None]
        if tile.column_term:
            column = self._term(values, tile.column_term)[None, self.plan.own(tile.columns)]
        return row, column

    def _scatter(self, tile: Tile, weights: Float[Tensor, "I J"]) -> None:
        rows = self.plan.texts(tile.block.left, tile.rows)
        columns = self.plan.texts(tile.block.right, tile.columns)
        to_rows, to_columns = self.products.weighted(weights, rows, columns)
        self.texts.gradient[rows] += to_rows
        self.texts.gradient[columns] += to_columns
        self.texts.add_offsets_gradient(weights, rows, columns)

    def _tiles(self, reference: float) -> Iterator[tuple[Tile, Float[Tensor, "I J"]]]:
        for tile in self.plan.tiles():
            rows = self.plan.texts(tile.block.left, tile.rows)
            columns = self.plan.texts(tile.block.right, tile.columns)
            yield tile, self.products.logits(rows, columns, reference)

    def _empty(self, value: float) -> Float[Tensor, "T A"]:
        size = (len(self.places), len(self.plan.anchors))
        return self.texts.vectors.new_full(size, value)

    def _term(self, values: Float[Tensor, "T A"], name: str) -> Float[Tensor, " A"]:
        return values[self.places[name]]


def _without(values: Tensor, excluded: Tensor | None) -> Tensor:
    """Zero what is excluded, in place."""
    return values if excluded is None else values.masked_fill_(excluded, 0.0)


def _filtered(values: Tensor, excluded: Tensor | None) -> Tensor:
    """Values without what is excluded; a copy where anything is."""
    return values if excluded is None else values.masked_fill(excluded, 0.0)


def _add_online(peaks: Tensor, sums: Tensor, values: Float[Tensor, "I J"]) -> None:
    """Add 2^values to running sums that are kept relative to running maxima, in place."""
    higher = torch.maximum(peaks, values.amax(1))
    level = torch.where(higher == -math.inf, 0.0, higher)
    sums.mul_(torch.exp2(peaks - level)).add_(torch.exp2(values - level[:, None]).sum(1))
    peaks.copy_(higher)
