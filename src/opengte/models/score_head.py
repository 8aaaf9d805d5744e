"""Heads of sequence classifiers: one pooled state -> logits, in float32.

Axes: N pairs, C hidden size, L labels (1 for a reranker).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from opengte.errors import ConfigError
from opengte.models.dropout import dropout

HeadKind = Literal["linear", "bert", "roberta", "modernbert"]
"""``linear``: W h (mGTE, Zhang et al. 2024, 2.4, as printed). ``bert``: W tanh(P h), transformers'
BertForSequenceClassification and mGTE's reranker as released. ``roberta``: the same under RoBERTa's
names (bge-reranker). ``modernbert``: W norm(gelu(P h)) (gte-reranker-modernbert)."""

NAMES: Mapping[HeadKind, Mapping[str, str]] = {
    "linear": {"out": "classifier"},
    "bert": {"dense": "pooler.dense", "out": "classifier"},
    "roberta": {"dense": "classifier.dense", "out": "classifier.out_proj"},
    "modernbert": {"dense": "head.dense", "norm": "head.norm", "out": "classifier"},
}
"""Our layers -> their names in transformers' sequence classifiers; ``pooler`` stands below the
backbone's prefix there."""


class ScoreHead(nn.Module):
    """One state -> labels.

    Args:
        hidden_size: C.
        num_labels: L.
        kind: its form.
        dropout: before each linear layer, while training.
        pooling: which state: the first token's, or the mean (an option of ModernBERT's head).
        bias: whether ModernBERT's dense layer and norm have one.
        eps: of ModernBERT's norm.

    Raises:
        ConfigError: an unknown kind.
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        kind: HeadKind = "linear",
        dropout: float = 0.1,
        pooling: Literal["cls", "mean"] = "cls",
        bias: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if kind not in get_args(HeadKind):
            known = ", ".join(get_args(HeadKind))
            raise ConfigError(f"head must be one of {known}, got {kind!r}")
        self.kind = kind
        self.dropout = dropout
        self.pooling = pooling
        modern = kind == "modernbert"
        self.dense: nn.Linear | None = None
        self.norm: nn.LayerNorm | None = None
        if kind != "linear":
            self.dense = nn.Linear(hidden_size, hidden_size, bias=bias or not modern)
        if modern:
            self.norm = nn.LayerNorm(hidden_size, eps=eps, bias=bias)
        self.out = nn.Linear(hidden_size, num_labels)

    def forward(self, states: Float[Tensor, "N C"]) -> Float[Tensor, "N L"]:
        """Logits."""
        if self.kind == "roberta":
            states = dropout(states, self.dropout, training=self.training)
        if self.dense is not None:
            states = self.dense(states)
            states = torch.tanh(states) if self.norm is None else self.norm(functional.gelu(states))
        logits: Tensor = self.out(dropout(states, self.dropout, training=self.training))
        return logits


def head_kind(names: Mapping[str, Any]) -> HeadKind | None:
    """Which head a checkpoint's weights hold, by their names; None when they hold none."""
    if "classifier.out_proj.weight" in names:
        return "roberta"
    if "classifier.weight" not in names:
        return None
    if "head.dense.weight" in names:
        return "modernbert"
    return "bert" if any(name.endswith("pooler.dense.weight") for name in names) else "linear"
