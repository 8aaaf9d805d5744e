"""The contrastive family in a few megabytes: exact value and gradient, tile by tile.

Axes: B pairs, N hard negatives, D embedding size, A anchors, T terms; I rows and J columns of
one tile.

``contrastive`` makes 4 B^2 similarities and keeps them for the backward pass. Here a tile of
them lives as long as its sums take; the backward pass makes it again. Neither costs more than
it must:

- Queries and documents share one product: the rows of the tile q_I d_J^T are the direction from
  query to document, its columns the one from document to query. Of q q^T and d d^T, which are
  symmetric, one triangle is made. So GTE's four blocks cost two full products, not four.
- All logits of a batch share one reference c, chosen so that 2^(logit - c) neither overflows nor
  loses a term that counts; then rows and columns share one exponential as well. Where the sums
  show that the range was too narrow, they are made again with a running maximum per anchor, in
  the manner of online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867).
- Logits are in units of log 2: 2^x is cheaper than e^x, by far where e^x is MKL's and the
  processor is not Intel's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from opengte.errors import ConfigError
from opengte.losses.form import ContrastiveForm, Kernel, ProductType, improved_form
from opengte.losses.fused_sums import FusedSums, can_be_fused
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.own_negatives import own_negative_term
from opengte.losses.positives import positive_means
from opengte.losses.relations import Relations
from opengte.losses.scaled_texts import ScaledTexts
from opengte.losses.scaling import check_products, checked_temperature, false_negative_limits
from opengte.losses.terms import all_terms, blocks_of, loss_from_terms
from opengte.losses.tile_masks import Screen
from opengte.losses.tile_sums import TileSums
from opengte.losses.tiles import TilePlan

_CPU_TILE, _GPU_TILE = 1024, 4096


def tiled_contrastive_loss(
    queries: Float[Tensor, "B D"],
    documents: Float[Tensor, "B D"],
    *,
    temperature: float | Tensor,
    form: ContrastiveForm | None = None,
    negatives: Float[Tensor, "N D"] | None = None,
    negative_owners: Int64[Tensor, " N"] | None = None,
    query_labels: Int64[Tensor, " B"] | None = None,
    document_labels: Int64[Tensor, " B"] | None = None,
    negative_labels: Int64[Tensor, " N"] | None = None,
    in_batch_negatives: bool = True,
    rows: range | None = None,
    products: ProductType = "exact",
    tile_size: int | None = None,
    kernel: Kernel = "torch",
) -> Float[Tensor, ""]:
    """Any contrastive loss of a batch of any size, in the memory of a few tiles.

    Args:
        queries: one embedding per query, of any length: they are normalised here.
        documents: row i answers row i of ``queries``.
        temperature: tau; a tensor where it is learned.
        form: which similarities stand in which Z; None = GTE's four blocks, as printed.
        negatives: hard negatives of all rows, in any order.
        negative_owners: the row whose hard negative each of ``negatives`` is.
        query_labels: rows with equal labels are never each other's negatives.
        document_labels: likewise, for the text of the document.
        negative_labels: in the numbering of ``document_labels``.
        in_batch_negatives: whether texts of other rows stand in Z at all.
        rows: the anchors whose terms are computed; the result is still divided by B.
        products: ``exact`` multiplies in the precision of the embeddings; ``bfloat16`` rounds
            the factors and sums in float32: faster where the processor has such units, with a
            gradient that is off by half a hundredth.
        tile_size: rows and columns of a tile; None fits the device.
        kernel: ``triton`` fuses what it can into kernels for CUDA, and leaves the rest to torch.

    Returns:
        Mean negative log-likelihood, in nats per pair.

    Raises:
        ConfigError: the temperature or the tile size is not above 0.
        MissingExtraError: ``kernel`` is triton, and that is absent.
        DataError: the shapes do not belong to one batch.
    """
    batch = EmbeddedBatch(
        queries,
        documents,
        negatives,
        negative_owners,
        query_labels,
        document_labels,
        negative_labels,
        in_batch_negatives=in_batch_negatives,
        rows=rows,
    )
    form = improved_form() if form is None else form
    return tiled_loss(
        batch,
        form,
        temperature=temperature,
        products=products,
        tile_size=tile_size,
        kernel=kernel,
    )


def tiled_loss(
    batch: EmbeddedBatch,
    form: ContrastiveForm,
    *,
    temperature: float | Tensor,
    products: ProductType = "exact",
    tile_size: int | None = None,
    kernel: Kernel = "torch",
) -> Float[Tensor, ""]:
    """``contrastive_loss`` by tiles: the same value, the same gradient.

    Args:
        batch: the embeddings and what is known about them.
        form: which similarities stand in which Z.
        temperature: tau; a tensor where it is learned.
        products: as in ``tiled_contrastive_loss``.
        tile_size: rows and columns of a tile; None fits the device.
        kernel: ``triton`` fuses what it can into kernels for CUDA, and leaves the rest to torch.

    Returns:
        The loss in nats per pair, float64 for float64 embeddings, else float32.

    Raises:
        ConfigError: the temperature or the tile size is not above 0.
        MissingExtraError: ``kernel`` is triton, and that is absent.
    """
    positive, terms = tiled_terms(
        batch,
        form,
        temperature=temperature,
        products=products,
        tile_size=tile_size,
        kernel=kernel,
    )
    means = positive_means(batch, form, temperature)
    return loss_from_terms(batch, form, positive, terms, means)


def tiled_terms(
    batch: EmbeddedBatch,
    form: ContrastiveForm,
    *,
    temperature: float | Tensor,
    products: ProductType = "exact",
    tile_size: int | None = None,
    kernel: Kernel = "torch",
) -> tuple[Float[Tensor, " A"], dict[str, Float[Tensor, " A"]]]:
    """The positive logits and the terms that all partitions of ``form`` are made of, in nats.

    Args:
        batch: the embeddings and what is known about them.
        form: which similarities stand in which Z.
        temperature: tau; a tensor where it is learned.
        products: as in ``tiled_contrastive_loss``.
        tile_size: rows and columns of a tile; None fits the device.
        kernel: ``triton`` fuses what it can into kernels for CUDA, and leaves the rest to torch.

    Raises:
        ConfigError: the temperature or the tile size is not above 0.
        MissingExtraError: ``kernel`` is triton, and that is absent.
    """
    checked_temperature(temperature)
    check_products(products, form.similarity)
    device = batch.queries.device.type
    if tile_size is None:
        tile_size = _CPU_TILE if device == "cpu" else _GPU_TILE
    if tile_size < 1:
        raise ConfigError(f"tile_size must be >= 1, got {tile_size}")
    if not isinstance(temperature, Tensor):
        temperature = torch.tensor(temperature, dtype=torch.float64)
    names = all_terms(batch, form)
    blocks = blocks_of(names)
    negatives = batch.negatives if any(b.right == "negative" for b in blocks) else None
    plan = TilePlan(
        batch_size=len(batch),
        num_negatives=0 if negatives is None else len(negatives),
        anchors=batch.anchors,
        blocks=blocks,
        relations=Relations.of(batch),
        form=form,
        tile_size=tile_size,
    )
    # Autocast would round the logits to 8 bits: at temperature 0.01 they would be off by 0.25.
    with torch.autocast(device, enabled=False):
        positive, *values = TiledTerms.apply(
            plan, form, (products, kernel), temperature, batch.queries, batch.documents, negatives
        )
        terms = dict(zip(plan.terms, values, strict=True))
        if "own_negative" in names:
            limits = false_negative_limits(form, positive, temperature)
            terms["own_negative"] = own_negative_term(
                batch, form, plan.relations, temperature, limits
            )
    return positive, terms


class TiledTerms(torch.autograd.Function):
    """Positive logits and terms of all anchors, (1 + T, A), in nats."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: TilePlan,
        form: ContrastiveForm,
        means: tuple[ProductType, Kernel],
        temperature: Tensor,
        queries: Tensor,
        documents: Tensor,
        negatives: Tensor | None,
    ) -> Float[Tensor, "T A"]:
        """Sum all tiles once."""
        sources = (queries, documents) if negatives is None else (queries, documents, negatives)
        texts = _texts(plan, form, temperature, sources)
        positive = texts.positive_logits()
        sums = _sums(plan, form, texts, means, _screen(form, texts, positive))
        log_sums, ctx.method = sums.log_sums()
        ctx.save_for_backward(temperature, log_sums, *sources)
        ctx.settings = (plan, form, means)
        return torch.cat([positive[None], log_sums]).mul_(math.log(2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Make all tiles again, and from each of them its share of the gradient."""
        temperature, log_sums, *sources = ctx.saved_tensors
        plan, form, means = ctx.settings
        with torch.autocast(gradient.device.type, enabled=False):
            texts = _texts(plan, form, temperature, tuple(sources))
            gradient = gradient * math.log(2)
            screen = _screen(form, texts, texts.positive_logits())
            sums = _sums(plan, form, texts, means, screen)
            sums.add_gradient(log_sums, gradient[1:], ctx.method)
            texts.add_positive_gradient(gradient[0])
            by_temperature, by_sources = texts.source_gradients()
        negatives = by_sources[2] if len(by_sources) > 2 else None
        by_temperature = by_temperature.to(temperature.dtype)
        return None, None, None, by_temperature, by_sources[0], by_sources[1], negatives


def _sums(
    plan: TilePlan,
    form: ContrastiveForm,
    texts: ScaledTexts,
    means: tuple[ProductType, Kernel],
    screen: Screen | None,
) -> TileSums:
    products, kernel = means
    if kernel == "triton" and can_be_fused(form, plan.relations, texts):
        return FusedSums(plan, texts, products)
    return TileSums(plan, texts, products, screen)


def _texts(
    plan: TilePlan, form: ContrastiveForm, temperature: Tensor, sources: tuple[Tensor, ...]
) -> ScaledTexts:
    cosine = form.similarity == "cosine"
    return ScaledTexts(plan, cosine=cosine, temperature=temperature.item(), sources=sources)


def _screen(form: ContrastiveForm, texts: ScaledTexts, positive: Tensor) -> Screen | None:
    if form.false_negative_margin is None:
        return None
    margin = form.false_negative_margin * texts.scale**2
    return Screen(positive + margin, on_documents=form.margin_on_documents)
