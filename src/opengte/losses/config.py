"""A recipe's ``loss:`` -> a function from an embedded batch to one scalar.

One frozen dataclass a loss, told apart by ``kind``; ``make_loss`` turns it into a function. The
result is a ``torch.nn.Module`` with parameters of its own where something is learned with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from opengte.errors import ConfigError
from opengte.losses.alignment import (
    AlignmentMSEConfig,
    UniformityConfig,
    alignment_mse_loss,
    uniformity_loss,
    warn_of_collapse,
)
from opengte.losses.balance import ConanBalanceConfig, conan_balance_loss
from opengte.losses.circle import CircleConfig, circle_loss
from opengte.losses.contrastive_config import (
    ImprovedContrastiveConfig,
    InfoNCEConfig,
    InstructorConfig,
    Qwen3ContrastiveConfig,
    make_contrastive_loss,
)
from opengte.losses.cosent import AnglEConfig, CoSENTConfig, angle_loss, cosent_loss
from opengte.losses.distillation import (
    EmbeddingMSEConfig,
    KLDistillationConfig,
    MarginMSEConfig,
    embedding_mse_loss,
    kl_distillation_loss,
    margin_mse_loss,
)
from opengte.losses.inputs import EmbeddedBatch

Loss = Callable[[EmbeddedBatch], Float[Tensor, ""]]


@dataclass(frozen=True, kw_only=True)
class MatryoshkaConfig:
    """A loss of the embeddings cut to several sizes, added up (arXiv:2205.13147, eq. 1).

    Attributes:
        kind: names this loss in a recipe.
        loss: what is computed at every size.
        dimensions: the sizes, the whole embedding among them if it is to be trained; mGTE: all
            multiples of 32; Conan: 256 to 1792.
        weights: of each size; None = 1 each, as in the paper; mGTE's are not published.
    """

    kind: Literal["matryoshka"] = "matryoshka"
    loss: LossConfig
    dimensions: tuple[int, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check that sizes and weights belong together."""
        if not self.dimensions or min(self.dimensions) < 1:
            raise ConfigError(f"dimensions must be one or more sizes > 0, got {self.dimensions}")
        _check_weights(self.weights, len(self.dimensions), "dimensions")


@dataclass(frozen=True, kw_only=True)
class WeightedSumConfig:
    """Several losses of the same batch, added up.

    Attributes:
        kind: names this loss in a recipe.
        losses: the losses.
        weights: of each; None = 1 each; E5 stage 2: 1 and 0.2; Conan: 1 and 0.8.
    """

    kind: Literal["weighted_sum"] = "weighted_sum"
    losses: tuple[LossConfig, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check that losses and weights belong together."""
        if not self.losses:
            raise ConfigError("losses must name at least one loss, got none")
        _check_weights(self.weights, len(self.losses), "losses")


LossConfig = (
    ImprovedContrastiveConfig
    | InfoNCEConfig
    | Qwen3ContrastiveConfig
    | InstructorConfig
    | CoSENTConfig
    | AnglEConfig
    | CircleConfig
    | ConanBalanceConfig
    | AlignmentMSEConfig
    | UniformityConfig
    | KLDistillationConfig
    | MarginMSEConfig
    | EmbeddingMSEConfig
    | MatryoshkaConfig
    | WeightedSumConfig
)


def make_loss(config: LossConfig) -> Loss:
    """The function that ``config`` describes.

    Returns:
        A plain function; a ``torch.nn.Module`` if and only if it has parameters to learn.

    Warns:
        UserWarning: ``alignment_mse`` stands alone: its optimum is one vector for all texts.
    """
    alone = config.loss if isinstance(config, MatryoshkaConfig) else config
    if isinstance(alone, AlignmentMSEConfig):
        warn_of_collapse()
    loss = _made(config)
    if isinstance(loss, nn.Module) and not list(loss.parameters()):
        return loss.forward
    return loss


def _made(config: LossConfig) -> Loss:
    return _MAKERS[type(config)](config)


class MatryoshkaLoss(nn.Module):
    """One loss at several sizes of the embedding."""

    def __init__(self, config: MatryoshkaConfig) -> None:
        super().__init__()
        self.loss = _made(config.loss)
        weights = config.weights or (1.0,) * len(config.dimensions)
        self.parts = tuple(zip(config.dimensions, weights, strict=True))

    def forward(self, batch: EmbeddedBatch) -> Float[Tensor, ""]:
        """Weighted sum over the sizes.

        Raises:
            ConfigError: the embeddings are smaller than one of the sizes.
        """
        return _total(weight * self.loss(batch.truncated(size)) for size, weight in self.parts)


class WeightedSumLoss(nn.Module):
    """Several losses of one batch."""

    def __init__(self, config: WeightedSumConfig) -> None:
        super().__init__()
        weights = config.weights or (1.0,) * len(config.losses)
        losses = [_made(part) for part in config.losses]
        self.learned = nn.ModuleList(loss for loss in losses if isinstance(loss, nn.Module))
        self.parts = tuple(zip(losses, weights, strict=True))

    def forward(self, batch: EmbeddedBatch) -> Float[Tensor, ""]:
        """Weighted sum over the losses."""
        return _total(weight * loss(batch) for loss, weight in self.parts)


def _total(values: Iterable[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(list(values)).sum()


def _check_weights(weights: tuple[float, ...] | None, count: int, of: str) -> None:
    if weights is not None and len(weights) != count:
        raise ConfigError(f"weights must be {count}, one for each of {of}, got {len(weights)}")


def _plain(function: Callable[..., Float[Tensor, ""]]) -> Callable[[Any], Loss]:
    """Give every field of the config but ``kind`` to a function of its name."""

    def make(config: Any) -> Loss:
        settings = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "kind"}
        return functools.partial(function, **settings)

    return make


_MAKERS: dict[type, Callable[[Any], Loss]] = {
    ImprovedContrastiveConfig: make_contrastive_loss,
    InfoNCEConfig: make_contrastive_loss,
    Qwen3ContrastiveConfig: make_contrastive_loss,
    InstructorConfig: make_contrastive_loss,
    CoSENTConfig: _plain(cosent_loss),
    AnglEConfig: _plain(angle_loss),
    CircleConfig: _plain(circle_loss),
    ConanBalanceConfig: _plain(conan_balance_loss),
    AlignmentMSEConfig: _plain(alignment_mse_loss),
    UniformityConfig: _plain(uniformity_loss),
    KLDistillationConfig: _plain(kl_distillation_loss),
    MarginMSEConfig: _plain(margin_mse_loss),
    EmbeddingMSEConfig: _plain(embedding_mse_loss),
    MatryoshkaConfig: MatryoshkaLoss,
    WeightedSumConfig: WeightedSumLoss,
}
