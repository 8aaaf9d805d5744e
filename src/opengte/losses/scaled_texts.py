"""Embeddings of a batch -> vectors whose inner products are logits, and the way back.

Axes: B pairs, N hard negatives, M = 2B + N texts, D embedding size, A anchors; I rows and J
columns of one tile. Logits are in units of log 2: s / tau * log2(e).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.losses.form import ProductType
from opengte.losses.products import BFloat16Products, ExactProducts
from opengte.losses.tiles import TilePlan

_NORM_FLOOR = 1e-12
"""As in ``torch.nn.functional.normalize``."""

_NUM_PROBES = 256
"""Texts that every text is compared with to guess the largest of its logits."""


class ScaledTexts:
    """All texts of a batch as one matrix, and the gradient that gathers for it.

    Temperature and normalisation are undone by hand in ``source_gradients``, so that beside the
    embeddings only this matrix and its gradient are held.

    Args:
        plan: how many texts there are, and which of them are anchors.
        cosine: whether to normalise; otherwise logits are -|x - y|^2 / (2 tau).
        temperature: tau.
        sources: queries, documents and, where there are any, hard negatives.

    Attributes:
        vectors: the scaled vectors.
        offsets: what each adds to its logits, or None for cosine.
        gradient: of the loss, by ``vectors``; zeros at first.
    """

    def __init__(
        self,
        plan: TilePlan,
        *,
        cosine: bool,
        temperature: float,
        sources: tuple[Float[Tensor, "_ D"], ...],
    ) -> None:
        self.plan, self.temperature, self.sources = plan, temperature, sources
        self.scale = math.sqrt(math.log2(math.e) / temperature)
        first = sources[0]
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        num_texts = sum(len(source) for source in sources)
        self.vectors = first.new_empty((num_texts, first.shape[1]), dtype=dtype)
        self.norms: Tensor | None = None
        torch.cat([source.to(dtype) for source in sources], out=self.vectors)
        if cosine:
            norms = torch.linalg.vector_norm(self.vectors, dim=1, keepdim=True)
            self.norms = norms.clamp_(min=_NORM_FLOOR)
            self.vectors.div_(self.norms)
        self.vectors.mul_(self.scale)
        self.offsets = None if cosine else self.vectors.square().sum(1).div_(-2)
        self._gradient: Tensor | None = None
        self._offsets_gradient: Tensor | None = None

    @property
    def largest_logit(self) -> float:
        """No logit is above it: the cosine is at most 1, the squared distance at least 0."""
        return self.scale**2 if self.offsets is None else 0.0

    @property
    def smallest_logit(self) -> float:
        """No logit is below it."""
        return -(self.scale**2) if self.offsets is None else -math.inf

    def positive_logits(self) -> Float[Tensor, " A"]:
        """The logit of each anchor's own pair."""
        queries, documents = self._anchor_parts()
        logits = torch.linalg.vecdot(self.vectors[queries], self.vectors[documents])
        if self.offsets is None:
            return logits
        return logits + self.offsets[queries] + self.offsets[documents]

    def _anchor_parts(self) -> tuple[slice, slice]:
        plan = self.plan
        return plan.texts("query", plan.anchors), plan.texts("document", plan.anchors)

    def products(self, kind: ProductType) -> ExactProducts | BFloat16Products:
        """What multiplies tiles of these vectors."""
        if kind == "exact" or self.vectors.dtype == torch.float64:
            return ExactProducts(self.vectors, self.offsets)
        return BFloat16Products(self.vectors, self._levels())

    def _levels(self) -> Float[Tensor, " M"]:
        """Half of the largest logit that each text has with a few others."""
        size = len(self.vectors)
        probes = torch.arange(0, size, max(1, size // _NUM_PROBES), device=self.vectors.device)
        levels = self.vectors.new_empty(size)
        for start in range(0, size, self.plan.tile_size):
            part = slice(start, min(start + self.plan.tile_size, size))
            logits = self.vectors[part] @ self.vectors[probes].T
            itself = torch.arange(part.start, part.stop, device=probes.device)[:, None] == probes
            levels[part] = logits.masked_fill_(itself, -math.inf).amax(1)
        levels = levels.masked_fill(levels == -math.inf, 0.0)
        batch = self.plan.batch_size
        positive = torch.linalg.vecdot(self.vectors[:batch], self.vectors[batch : 2 * batch])
        for part in (slice(0, batch), slice(batch, 2 * batch)):
            levels[part] = torch.maximum(levels[part], positive)
        return levels / 2

    @property
    def gradient(self) -> Float[Tensor, "M D"]:
        """Gradient by ``vectors``, for others to add to."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.vectors)
        return self._gradient

    def add_offsets_gradient(
        self, weights: Float[Tensor, "I J"], rows: slice, columns: slice
    ) -> None:
        """Account for the offsets of a tile whose logits have the gradient ``weights``."""
        if self.offsets is not None:
            self._add_to_offsets(rows, weights.sum(1))
            self._add_to_offsets(columns, weights.sum(0))

    def _add_to_offsets(self, texts: slice, gradient: Tensor) -> None:
        if self._offsets_gradient is None:
            self._offsets_gradient = self.vectors.new_zeros(len(self.vectors))
        self._offsets_gradient[texts] += gradient

    def add_positive_gradient(self, weights: Float[Tensor, " A"]) -> None:
        """Account for the positive logits, whose gradient is ``weights``."""
        queries, documents = self._anchor_parts()
        self.gradient[queries] += weights[:, None] * self.vectors[documents]
        self.gradient[documents] += weights[:, None] * self.vectors[queries]
        if self.offsets is not None:
            self._add_to_offsets(queries, weights)
            self._add_to_offsets(documents, weights)

    def source_gradients(self) -> tuple[Float[Tensor, ""], tuple[Float[Tensor, "_ D"], ...]]:
        """Gradients by the temperature and by the sources; ``gradient`` is used up.

        Logits are homogeneous of degree 2 in the vectors and of degree -1 in the temperature,
        so the gradient by the temperature needs no product of its own.
        """
        gradient = self.gradient
        if self._offsets_gradient is not None:
            gradient.addcmul_(self._offsets_gradient[:, None], self.vectors, value=-1)
        along = torch.linalg.vecdot(gradient, self.vectors)[:, None]
        by_temperature = along.sum() / (-2 * self.temperature)
        if self.norms is not None:
            gradient.addcmul_(along / self.scale**2, self.vectors, value=-1).div_(self.norms)
        gradient.mul_(self.scale)
        parts = gradient.split([len(source) for source in self.sources])
        return by_temperature, tuple(
            part.to(source.dtype) for part, source in zip(parts, self.sources, strict=True)
        )
