"""Embeddings and a temperature -> logits of single pairs, and what a logit may be at most.

Axes: n texts, D embedding size, A anchors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.errors import ConfigError
from opengte.losses.form import ContrastiveForm, ProductType, Similarity


def checked_temperature(temperature: float | Tensor) -> float:
    """The temperature as a number, without its gradient.

    Raises:
        ConfigError: it is not above 0.
    """
    value = temperature.item() if isinstance(temperature, Tensor) else float(temperature)
    if not value > 0:
        raise ConfigError(f"temperature must be > 0, got {value}")
    return value


def check_products(products: ProductType, similarity: Similarity) -> None:
    """Refuse products that are too coarse for a similarity.

    Raises:
        ConfigError: bfloat16 products of vectors of any length: their error grows with the
            square of the length, and a distance is a small difference of large products.
    """
    if products == "bfloat16" and similarity != "cosine":
        raise ConfigError(f"products bfloat16 need similarity cosine, got {similarity}")


def scaled_vectors(
    vectors: Float[Tensor, "n D"], form: ContrastiveForm, temperature: float | Tensor
) -> Float[Tensor, "n D"]:
    """Vectors whose inner products are cosine / tau: normalised, and divided by sqrt(tau).

    For the squared distance they are divided alone. bfloat16 and float16 become float32.
    """
    if vectors.dtype != torch.float64:
        vectors = vectors.float()
    if form.similarity == "cosine":
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
    return vectors / temperature**0.5


def pair_logits(
    left: Float[Tensor, "n D"], right: Float[Tensor, "n D"], form: ContrastiveForm
) -> Float[Tensor, " n"]:
    """The logit of each row of ``left`` with the same row of ``right``; both are scaled."""
    if form.similarity == "cosine":
        return (left * right).sum(-1)
    return (left - right).square().sum(-1) / -2


def false_negative_limits(
    form: ContrastiveForm, positive: Float[Tensor, " A"], temperature: float | Tensor
) -> Float[Tensor, " A"] | None:
    """The largest logit that each anchor tolerates in a negative, without gradient."""
    if form.false_negative_margin is None:
        return None
    return positive.detach() + form.false_negative_margin / checked_temperature(temperature)
