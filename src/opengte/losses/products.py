"""Two tiles of vectors -> their inner products, as fast and as exactly as the machine allows.

Axes: M vectors of all texts, K values each; I rows and J columns of one tile.

On CPUs torch's bfloat16 product rounds its *result* to 8 bits as well: a logit of 100
would be off by 0.25. So a whole number close to the logits that matter is subtracted inside the
product, by one more column on either side, where it costs nothing and is exact.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.matrix_product import matrix_product


class ExactProducts:
    """Products in the precision of the vectors: float32 or float64.

    Args:
        vectors: all texts; a logit is the inner product of two of them.
        offsets: what is added to every logit of a text, or None.
    """

    def __init__(self, vectors: Float[Tensor, "M K"], offsets: Float[Tensor, " M"] | None) -> None:
        self.vectors, self.offsets = vectors, offsets
        self._transposed: tuple[slice, Tensor] | None = None

    def logits(self, rows: slice, columns: slice, reference: float = 0.0) -> Float[Tensor, "I J"]:
        """The logits of two groups of texts, less ``reference``; a tensor that may be changed."""
        if self._transposed is None or self._transposed[0] != columns:
            self._transposed = (columns, self.vectors[columns].T.contiguous())
        right = self._transposed[1]
        if self.offsets is None:
            bias = right.new_full((right.shape[1],), -reference)
            return matrix_product(self.vectors[rows], right, bias)
        bias = self.offsets[columns] - reference
        return matrix_product(self.vectors[rows], right, bias).add_(self.offsets[rows, None])

    def weighted(
        self, weights: Float[Tensor, "I J"], rows: slice, columns: slice
    ) -> tuple[Float[Tensor, "I K"], Float[Tensor, "J K"]]:
        """Sum the vectors of the columns for each row, and those of the rows for each column."""
        return (
            matrix_product(weights, self.vectors[columns]),
            matrix_product(weights.T.contiguous(), self.vectors[rows]),
        )


class BFloat16Products:
    """Products of bfloat16 roundings, summed in float32; results keep float32's range.

    Args:
        vectors: float32 vectors of all texts.
        levels: about half the largest logit of each text: where its rounding must be finest.
    """

    def __init__(self, vectors: Float[Tensor, "M K"], levels: Float[Tensor, " M"]) -> None:
        # Whole numbers up to 127 have no rounding error in bfloat16.
        self.levels = levels.round().clamp(-127, 127)
        self.vectors = vectors.bfloat16()
        self._transposed: tuple[slice, Tensor] | None = None

    def logits(self, rows: slice, columns: slice, reference: float = 0.0) -> Float[Tensor, "I J"]:
        """The logits of two groups of texts, less ``reference``; a tensor that may be changed."""
        if self._transposed is None or self._transposed[0] != columns:
            self._transposed = (columns, self._augmented(columns, level_first=False).T.contiguous())
        product = torch.mm(self._augmented(rows, level_first=True), self._transposed[1])
        tile = product.float()
        return tile.add_(self.levels[rows, None]).add_(self.levels[columns] - reference)

    def _augmented(self, texts: slice, *, level_first: bool) -> Tensor:
        level = -self.levels[texts, None].bfloat16()
        one = torch.ones_like(level)
        ends = (level, one) if level_first else (one, level)
        return torch.cat([self.vectors[texts], *ends], dim=1)

    def weighted(
        self, weights: Float[Tensor, "I J"], rows: slice, columns: slice
    ) -> tuple[Float[Tensor, "I K"], Float[Tensor, "J K"]]:
        """Sum the vectors of the columns for each row, and those of the rows for each column."""
        rounded = weights.bfloat16()
        return (
            torch.mm(rounded, self.vectors[columns]),
            torch.mm(rounded.T, self.vectors[rows]),
        )
