"""Pairs drawn together, and all texts driven apart, without a softmax between the two.

Axes: B pairs, D embedding size. Symbols follow Wang and Isola 2020 (arXiv:2005.10242).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.errors import ConfigError
from opengte.losses.form import ContrastiveForm, Partition
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.tiled import tiled_terms

COLLAPSE = (
    "alignment_mse alone is smallest when every text has the same embedding; "
    "add uniformity or a contrastive loss to it in a weighted_sum"
)


@dataclass(frozen=True, kw_only=True)
class AlignmentMSEConfig:
    """Squared distance of the two unit vectors of a pair: 2 - 2 cos.

    Attributes:
        kind: names this loss in a recipe.
    """

    kind: Literal["alignment_mse"] = "alignment_mse"


@dataclass(frozen=True, kw_only=True)
class UniformityConfig:
    """How evenly texts lie on the unit sphere (Wang and Isola 2020, section 4.1).

    Attributes:
        kind: names this loss in a recipe.
        sharpness: t; paper: 2.
    """

    kind: Literal["uniformity"] = "uniformity"
    sharpness: float = 2.0

    def __post_init__(self) -> None:
        """Check the sharpness."""
        if not self.sharpness > 0:
            raise ConfigError(f"sharpness must be > 0, got {self.sharpness}")


def alignment_mse_loss(batch: EmbeddedBatch) -> Float[Tensor, ""]:
    """Mean over the pairs of |q_i - d_i|^2, both normalised (Wang and Isola 2020, section 4.1).

    The sum over the D components, not their mean: the mean vanishes as 1 / D.
    """
    rows = slice(batch.anchors.start, batch.anchors.stop)
    queries, documents = (
        torch.nn.functional.normalize(x[rows].to(batch.compute_dtype), dim=1)
        for x in (batch.queries, batch.documents)
    )
    return (queries - documents).square().sum() / len(batch)


def warn_of_collapse() -> None:
    """Say that alignment alone learns nothing.

    Warns:
        UserWarning: always.
    """
    warnings.warn(COLLAPSE, UserWarning, stacklevel=3)


def uniformity_loss(batch: EmbeddedBatch, *, sharpness: float = 2.0) -> Float[Tensor, ""]:
    """Log of the mean of e^{-t |x - y|^2} over distinct texts, the mean of both sides.

    Texts are normalised; queries are compared with queries and documents with documents, tile
    by tile. A batch of one pair has no distinct texts: its uniformity is 0.
    """
    if len(batch) < 2:
        return batch.nothing()
    queries, documents = (
        torch.nn.functional.normalize(x.to(batch.compute_dtype), dim=1)
        for x in (batch.queries, batch.documents)
    )
    # -|x - y|^2 / (2 tau) = -t |x - y|^2
    form = ContrastiveForm(
        partitions=(Partition(query_query=True, document_document=True),),
        similarity="squared_distance",
    )
    _, terms = tiled_terms(EmbeddedBatch(queries, documents), form, temperature=1 / (2 * sharpness))
    num_pairs = len(batch) * (len(batch) - 1)
    sides = [torch.logsumexp(terms[k], 0) for k in ("query_query", "document_document")]
    return batch.share * ((sides[0] + sides[1]) / 2 - math.log(num_pairs))
