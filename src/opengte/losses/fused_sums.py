"""What ``tile_sums`` computes, by kernels that never write a tile to memory (CUDA, Triton).

Axes: A anchors, T terms, M texts. Logits are in units of log 2.

Every block of similarities is gone through once for its rows and once for its columns, so that no
two programs add to the same number and a run repeats bit for bit. Plain equalities of labels are
all the kernels know: a loss with a false-negative margin, with known positives that pull together,
or with answers that only a third row tells of keeps to the tiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from opengte.errors import MissingExtraError
from opengte.losses.form import ContrastiveForm, ProductType, Side
from opengte.losses.relations import Relations
from opengte.losses.scaled_texts import ScaledTexts
from opengte.losses.terms import Block
from opengte.losses.tile_sums import TileSums
from opengte.losses.tiles import TilePlan

if TYPE_CHECKING:
    from types import ModuleType

NO_MARK = (-2, -3)
"""Of a left and a right text that no label concerns: never equal."""


def can_be_fused(form: ContrastiveForm, relations: Relations, texts: ScaledTexts) -> bool:
    """Whether the kernels know everything that this loss and batch ask for."""
    return (
        form.similarity == "cosine"
        and form.false_negative_margin is None
        and form.positives == "own"
        and relations.chained_documents is None
        and relations.chained_queries is None
        and texts.vectors.dtype == torch.float32
    )


def import_kernels() -> ModuleType:
    """The kernels.

    Raises:
        MissingExtraError: Triton is absent.
    """
    try:
        from opengte.losses import triton_kernels
    except ImportError as error:
        raise MissingExtraError("triton", extra="triton") from error
    return triton_kernels


class FusedSums(TileSums):
    """Sums over the blocks of one batch.

    Args:
        plan: the blocks.
        texts: the vectors.
        kind: how products are made.
    """

    def __init__(self, plan: TilePlan, texts: ScaledTexts, kind: ProductType) -> None:
        super().__init__(plan, texts, kind, None)
        self.kernels = import_kernels()
        rounded = kind == "bfloat16"
        self.vectors = texts.vectors.bfloat16() if rounded else texts.vectors

    def _by_shared_reference(self) -> Float[Tensor, "T A"]:
        sums = self._empty(0.0)
        anchors = self.plan.anchors
        for block in self.plan.blocks:
            left, right = self._marks(block)
            everything = slice(0, right.shape[1])
            own = slice(anchors.start, anchors.stop)
            if block.row_term:
                found = self._sums(block.left, own, left, block.right, everything, right)
                self._term(sums, block.row_term).copy_(found)
            if block.column_term and not block.symmetric:
                everything = slice(0, left.shape[1])
                found = self._sums(block.right, own, right, block.left, everything, left)
                self._term(sums, block.column_term).copy_(found)
        return sums.log2_().add_(self.reference)

    def _sums(
        self,
        side: Side,
        part: slice,
        marks: Int32[Tensor, "2 n"],
        other: Side,
        other_part: slice,
        other_marks: Int32[Tensor, "2 m"],
    ) -> Float[Tensor, " A"]:
        found: Tensor = self.kernels.row_sums(
            self.vectors[self.plan.texts(side, part)],
            self.vectors[self.plan.texts(other, other_part)],
            marks[:, part].contiguous(),
            other_marks[:, other_part].contiguous(),
            reference=self.reference,
        )
        return found

    def add_gradient(
        self, log_sums: Float[Tensor, "T A"], gradient: Float[Tensor, "T A"], method: str
    ) -> None:
        """See ``TileSums``; sums that took the running maximum take the tiles here too."""
        if method != "shared_reference":
            super().add_gradient(log_sums, gradient, method)  # type: ignore[arg-type]
            return
        shift = torch.exp2(self.reference - log_sums)
        factors = torch.where(log_sums == -torch.inf, 0.0, gradient * shift)
        for block in self.plan.blocks:
            left, right = self._marks(block)
            of_left = self._spread(factors, block.row_term, left.shape[1])
            column_term = None if block.right == "negative" else block.column_term
            of_right = self._spread(factors, column_term, right.shape[1])
            self._add(block.left, left, of_left, block.right, right, of_right)
            if not block.symmetric:
                self._add(block.right, right, of_right, block.left, left, of_left)

    def _add(
        self,
        side: Side,
        marks: Tensor,
        factors: Tensor,
        other: Side,
        others: Tensor,
        theirs: Tensor,
    ) -> None:
        """Add to the gradient of one side of a block what its other side sends."""
        rows = self.plan.texts(side, slice(0, marks.shape[1]))
        columns = self.plan.texts(other, slice(0, others.shape[1]))
        self.texts.gradient[rows] += self.kernels.weighted_sums(
            self.vectors[rows],
            self.vectors[columns],
            marks,
            others,
            factors,
            theirs,
            reference=self.reference,
        )

    def _spread(self, factors: Tensor, term: str | None, size: int) -> Float[Tensor, " n"]:
        """The factors of the anchors among all texts of their side; 0 for the others."""
        spread = factors.new_zeros(size)
        if term is not None:
            anchors = self.plan.anchors
            spread[anchors.start : anchors.stop] = self._term(factors, term)
        return spread

    def _marks(self, block: Block) -> tuple[Int32[Tensor, "2 n"], Int32[Tensor, "2 m"]]:
        """Two numbers a text: equal ones in the same place keep two texts apart."""
        relations = self.plan.relations
        size, device = self.plan.batch_size, self.texts.vectors.device
        numbers = torch.arange(size, device=device)
        queries = numbers if relations.queries is None else relations.queries
        documents = relations.documents
        if block.right != "negative":
            own = _stacked(queries, documents, NO_MARK[0], size, device)
            return own, _stacked(queries, documents, NO_MARK[1], size, device)
        count = self.plan.num_negatives
        answered = None if relations.negatives is None else documents
        left = _stacked(
            queries if block.left == "document" else None, answered, NO_MARK[0], size, device
        )
        owners = relations.owners if block.left == "document" else None
        mined_for = None if owners is None else queries[owners]
        return left, _stacked(mined_for, relations.negatives, NO_MARK[1], count, device)


def _stacked(
    first: Tensor | None, second: Tensor | None, absent: int, size: int, device: torch.device
) -> Int32[Tensor, "2 n"]:
    nothing = torch.full((size,), absent, device=device)
    parts = [nothing if part is None else part for part in (first, second)]
    return torch.stack(parts).to(torch.int32).contiguous()
