"""Graded pairs -> a loss that asks only for their order: CoSENT and AnglE.

Axes: B pairs, D embedding size. Symbols: y_i the score of pair i, s_i its similarity, tau
temperature. Both losses are

    L = log( 1 + sum_{y_i > y_j} e^{(s_j - s_i) / tau} ),

over all pairs of pairs whose scores differ; they differ by what s is. Sorted by score, the inner
sums are running sums: B log B steps, and no B x B matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.scaling import checked_temperature


@dataclass(frozen=True, kw_only=True)
class CoSENTConfig:
    """CoSENT: cosines in the order of the scores (Su 2022, kexue.fm/archives/8847).

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau; piccolo2, Conan and sentence-transformers: 0.05.
    """

    kind: Literal["cosent"] = "cosent"
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Check the temperature."""
        checked_temperature(self.temperature)


@dataclass(frozen=True, kw_only=True)
class AnglEConfig:
    """AnglE's angle objective (Li and Li 2023, arXiv:2309.12871).

    The paper adds it to CoSENT and to a contrastive loss: see ``weighted_sum``.

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau; the released code and sentence-transformers: 0.05.
    """

    kind: Literal["angle"] = "angle"
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Check the temperature."""
        checked_temperature(self.temperature)


def cosent_loss(batch: EmbeddedBatch, *, temperature: float) -> Float[Tensor, ""]:
    """Order the pairs' cosines as their scores are ordered.

    Args:
        batch: must have ``scores``; pairs whose score is NaN are left out.
        temperature: tau.

    Raises:
        DataError: the batch has no scores.
    """
    return _graded_loss(batch, torch.nn.functional.cosine_similarity, temperature, "CoSENT")


def angle_loss(batch: EmbeddedBatch, *, temperature: float) -> Float[Tensor, ""]:
    """Order the pairs' angles in complex space, which do not saturate as cosines do.

    Args:
        batch: must have ``scores``; pairs whose score is NaN are left out.
        temperature: tau.

    Raises:
        DataError: the batch has no scores.
    """
    return _graded_loss(batch, angle_similarity, temperature, "AnglE")


def _graded_loss(
    batch: EmbeddedBatch,
    similarity: Callable[[Tensor, Tensor], Tensor],
    temperature: float,
    name: str,
) -> Float[Tensor, ""]:
    scores = batch.given("scores", wanted_by=name)
    known = ~torch.isnan(scores)
    queries = batch.queries[known].to(batch.compute_dtype)
    documents = batch.documents[known].to(batch.compute_dtype)
    logits = similarity(queries, documents) / temperature
    return batch.share * ordered_softplus(logits, -logits, scores[known])


def angle_similarity(
    left: Float[Tensor, "B D"], right: Float[Tensor, "B D"]
) -> Float[Tensor, " B"]:
    """How aligned two embeddings are as complex vectors (AnglE, arXiv:2309.12871).

    The halves of an embedding are real and imaginary parts, z = a + bi and w = c + di. Their
    quotient, freed of its length, is summed over all entries and both of its parts. With both
    normalised that is | (ac + bd) + (bc - ad) |: a cosine, and what a cosine does not see. An
    odd dimension is filled up with a zero.
    """
    if left.shape[1] % 2:
        left, right = (torch.nn.functional.pad(x, (0, 1)) for x in (left, right))
    left, right = (torch.nn.functional.normalize(x, dim=1) for x in (left, right))
    a, b = left.chunk(2, dim=1)
    c, d = right.chunk(2, dim=1)
    return ((a * c + b * d).sum(1) + (b * c - a * d).sum(1)).abs()


def ordered_softplus(
    low: Float[Tensor, " B"], high: Float[Tensor, " B"], scores: Float[Tensor, " B"]
) -> Float[Tensor, ""]:
    """log( 1 + sum over y_i > y_j of e^{low_j + high_i} ).

    Args:
        low: what a pair adds where it has the lower score of two.
        high: what it adds where it has the higher one.
        scores: y; equal scores are not compared.
    """
    scores, order = scores.sort()
    low, high = low[order], high[order]
    num_lower = torch.searchsorted(scores, scores)
    running = torch.logcumsumexp(low, dim=0)
    has_lower = num_lower > 0
    terms = running[num_lower[has_lower] - 1] + high[has_lower]
    return torch.logsumexp(torch.cat([terms.new_zeros(1), terms]), dim=0)
