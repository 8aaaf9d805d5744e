"""A recipe's ``loss:`` -> a function from an embedded batch to one scalar.

One frozen dataclass a loss, told apart by ``kind``; ``make_loss`` turns it into a function. The
result is a ``torch.nn.Module`` with parameters of its own where something is learned with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from opengte.losses.contrastive import contrastive_loss
from opengte.losses.form import (
    ContrastiveForm,
    Direction,
    HardNegatives,
    Similarity,
    improved_form,
    info_nce_form,
)
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.scaling import checked_temperature

Loss = Callable[[EmbeddedBatch], Float[Tensor, ""]]


@dataclass(frozen=True, kw_only=True)
class ImprovedContrastiveConfig:
    """GTE's loss: one softmax over queries and documents of the batch (GTE, eq. 5-6).

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau; GTE: 0.01 in both stages.
        count_positive_twice: as printed in GTE, whose loss therefore cannot fall below log 2.
        query_query, document_query, document_document: blocks of Z; GTE has all of them.
        hard_negatives: each query's own only, or all of the batch.
    """

    kind: Literal["improved_contrastive"] = "improved_contrastive"
    temperature: float = 0.01
    count_positive_twice: bool = True
    query_query: bool = True
    document_query: bool = True
    document_document: bool = True
    hard_negatives: HardNegatives = "all"

    def __post_init__(self) -> None:
        """Check the temperature."""
        checked_temperature(self.temperature)


@dataclass(frozen=True, kw_only=True)
class InfoNCEConfig:
    """InfoNCE in one or both directions (arXiv:1807.03748; E5, BGE, cpt-text).

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau; E5, BGE, mGTE: 0.01; E5-mistral: 0.02.
        direction: queries to documents (E5), or mean (cpt-text) or sum of both directions.
        hard_negatives: each query's own only, or all of the batch.
        similarity: cosine, or -|x - y|^2 / 2 of the embeddings as they are.
    """

    kind: Literal["info_nce"] = "info_nce"
    temperature: float = 0.01
    direction: Direction = "query_to_document"
    hard_negatives: HardNegatives = "all"
    similarity: Similarity = "cosine"

    def __post_init__(self) -> None:
        """Check the temperature."""
        checked_temperature(self.temperature)


LossConfig = ImprovedContrastiveConfig | InfoNCEConfig


def make_loss(config: LossConfig) -> Loss:
    """The function that ``config`` describes."""
    form, temperature = contrastive_form(config), config.temperature

    def loss(batch: EmbeddedBatch) -> Float[Tensor, ""]:
        return contrastive_loss(batch, form, temperature=temperature)

    return loss


def contrastive_form(config: LossConfig) -> ContrastiveForm:
    """Which similarities stand in which Z."""
    if isinstance(config, ImprovedContrastiveConfig):
        return improved_form(
            query_query=config.query_query,
            document_query=config.document_query,
            document_document=config.document_document,
            count_positive_twice=config.count_positive_twice,
            hard_negatives=config.hard_negatives,
        )
    plain = info_nce_form(direction=config.direction, hard_negatives=config.hard_negatives)
    return ContrastiveForm(partitions=plain.partitions, similarity=config.similarity)
