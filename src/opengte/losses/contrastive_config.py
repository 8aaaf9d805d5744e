"""Recipe values -> a contrastive loss, dense or tiled, of fixed or of learned temperature.

Four members of the family have a configuration of their own; they differ in ``form`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from opengte.losses.contrastive import contrastive_loss
from opengte.losses.form import (
    ContrastiveForm,
    Direction,
    HardNegatives,
    InstructorVariant,
    Positives,
    ProductType,
    Similarity,
    improved_form,
    info_nce_form,
    instructor_form,
    qwen3_form,
)
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.scaling import check_products, checked_temperature
from opengte.losses.tiled import tiled_loss

TILED_FROM = 256
"""Rows from which tiles are faster than whole matrices (one CPU core, 384 dimensions)."""

_LARGEST_SCALE = 100.0
"""A learned 1 / tau stays below this, as in CLIP (arXiv:2103.00020, section 2.5)."""


@dataclass(frozen=True, kw_only=True)
class ImprovedContrastiveConfig:
    """GTE's loss: one softmax over queries and documents of the batch (GTE, eq. 5-6).

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau; GTE: 0.01 in both stages.
        count_positive_twice: as printed in GTE, whose loss therefore cannot fall below log 2.
        query_document: whether Z holds s(q_i, d_j); GTE has all four blocks.
        query_query: whether Z holds s(q_i, q_j).
        document_query: whether Z holds s(d_i, q_j).
        document_document: whether Z holds s(d_i, d_j).
        hard_negatives: each query's own only, or all of the batch.
        learn_temperature: start from ``temperature`` and learn it with the encoder.
        products: ``exact``, or ``bfloat16`` with float32 sums: faster, gradient within 1 %.
        tiled: never more than a few tiles of similarities in memory; None: for large batches.
    """

    kind: Literal["improved_contrastive"] = "improved_contrastive"
    temperature: float = 0.01
    count_positive_twice: bool = True
    query_document: bool = True
    query_query: bool = True
    document_query: bool = True
    document_document: bool = True
    hard_negatives: HardNegatives = "all"
    learn_temperature: bool = False
    products: ProductType = "exact"
    tiled: bool | None = None

    def __post_init__(self) -> None:
        """Check the temperature."""
        checked_temperature(self.temperature)

    @property
    def form(self) -> ContrastiveForm:
        """Which similarities stand in which Z."""
        return improved_form(
            query_document=self.query_document,
            query_query=self.query_query,
            document_query=self.document_query,
            document_document=self.document_document,
            count_positive_twice=self.count_positive_twice,
            hard_negatives=self.hard_negatives,
        )


@dataclass(frozen=True, kw_only=True)
class InfoNCEConfig:
    """InfoNCE in one or both directions (arXiv:1807.03748; E5, BGE, cpt-text).

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau; E5, BGE, mGTE: 0.01; E5-mistral: 0.02; cpt-text learns it.
        direction: queries to documents (E5), or mean (cpt-text) or sum of both directions.
        hard_negatives: each query's own only, or all of the batch.
        similarity: cosine, or -|x - y|^2 / 2 of the embeddings as they are.
        positives: each query's own document; or, on average, all that the labels of the batch
            know to answer it (SupCon, arXiv:2004.11362, eq. 2).
        learn_temperature: start from ``temperature`` and learn it with the encoder.
        products: ``exact``, or ``bfloat16`` with float32 sums: faster, gradient within 1 %.
        tiled: never more than a few tiles of similarities in memory; None: for large batches.
    """

    kind: Literal["info_nce"] = "info_nce"
    temperature: float = 0.01
    direction: Direction = "query_to_document"
    hard_negatives: HardNegatives = "all"
    similarity: Similarity = "cosine"
    positives: Positives = "own"
    learn_temperature: bool = False
    products: ProductType = "exact"
    tiled: bool | None = None

    def __post_init__(self) -> None:
        """Check the temperature, and that the products are fine enough."""
        checked_temperature(self.temperature)
        check_products(self.products, self.similarity)

    @property
    def form(self) -> ContrastiveForm:
        """Which similarities stand in which Z."""
        return info_nce_form(
            direction=self.direction,
            hard_negatives=self.hard_negatives,
            similarity=self.similarity,
            positives=self.positives,
        )


@dataclass(frozen=True, kw_only=True)
class Qwen3ContrastiveConfig:
    """Qwen3-Embedding's masked loss (arXiv:2506.05176, eq. 1).

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau; not published; its repository's training guide defaults to 0.01.
        query_document: whether Z holds the documents of other rows: missing in the printed
            equation, confirmed by a maintainer.
        margin: a text more similar to q_i than d_i is, by more than this, is no negative;
            paper: 0.1. None switches the rule off.
        margin_on_documents: whether such a document is left out of the document-document block
            too, as the equation has it; ms-swift's implementation keeps it there.
        hard_negatives: whether "d_j" includes the hard negatives of other rows, as the paper
            says, or each query sees its own only.
        learn_temperature: start from ``temperature`` and learn it with the encoder.
        products: ``exact``, or ``bfloat16`` with float32 sums: faster, gradient within 1 %.
        tiled: never more than a few tiles of similarities in memory; None: for large batches.
    """

    kind: Literal["qwen3_contrastive"] = "qwen3_contrastive"
    temperature: float = 0.01
    query_document: bool = True
    margin: float | None = 0.1
    margin_on_documents: bool = True
    hard_negatives: HardNegatives = "all"
    learn_temperature: bool = False
    products: ProductType = "exact"
    tiled: bool | None = None

    def __post_init__(self) -> None:
        """Check the temperature."""
        checked_temperature(self.temperature)

    @property
    def form(self) -> ContrastiveForm:
        """Which similarities stand in which Z."""
        return qwen3_form(
            query_document=self.query_document,
            margin=self.margin,
            margin_on_documents=self.margin_on_documents,
            hard_negatives=self.hard_negatives,
        )


@dataclass(frozen=True, kw_only=True)
class InstructorConfig:
    """INSTRUCTOR's loss (arXiv:2212.09741, training objective).

    Attributes:
        kind: names this loss in a recipe.
        variant: the equation of the paper, or what the released code computes.
        temperature: tau; paper: 0.01; the README's example: 0.1.
        learn_temperature: start from ``temperature`` and learn it with the encoder.
        products: ``exact``, or ``bfloat16`` with float32 sums: faster, gradient within 1 %.
        tiled: never more than a few tiles of similarities in memory; None: for large batches.
    """

    kind: Literal["instructor"] = "instructor"
    variant: InstructorVariant = "paper"
    temperature: float = 0.01
    learn_temperature: bool = False
    products: ProductType = "exact"
    tiled: bool | None = None

    def __post_init__(self) -> None:
        """Check the temperature."""
        checked_temperature(self.temperature)

    @property
    def form(self) -> ContrastiveForm:
        """Which similarities stand in which Z."""
        return instructor_form(variant=self.variant)


ContrastiveConfig = (
    ImprovedContrastiveConfig | InfoNCEConfig | Qwen3ContrastiveConfig | InstructorConfig
)


def make_contrastive_loss(
    config: ContrastiveConfig,
) -> Callable[[EmbeddedBatch], Float[Tensor, ""]]:
    """The function that ``config`` describes; a module where the temperature is learned."""
    if config.learn_temperature:
        return LearnedTemperatureLoss(config)
    return lambda batch: family_loss(batch, config, config.temperature)


def family_loss(
    batch: EmbeddedBatch, config: ContrastiveConfig, temperature: float | Tensor
) -> Float[Tensor, ""]:
    """One member of the family, by tiles where these are faster or asked for."""
    tiled = len(batch) >= TILED_FROM if config.tiled is None else config.tiled
    if tiled:
        return tiled_loss(batch, config.form, temperature=temperature, products=config.products)
    return contrastive_loss(batch, config.form, temperature=temperature)


class LearnedTemperatureLoss(nn.Module):
    """A contrastive loss that learns log(1 / tau) with the encoder, as CLIP and cpt-text do.

    Attributes:
        log_scale: the parameter; e^log_scale = 1 / tau never exceeds 100.
    """

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """The present tau, with its gradient."""
        return torch.exp(-self.log_scale)

    def forward(self, batch: EmbeddedBatch) -> Float[Tensor, ""]:
        """The loss at the present temperature, in nats per pair."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(_LARGEST_SCALE))
        return family_loss(batch, self.config, self.temperature)
