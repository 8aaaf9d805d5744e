"""Similarities weighted by how far each is from where it should be: circle loss.

Axes: B pairs, N hard negatives, D embedding size; I anchors and J candidates of one slab.
Symbols follow Sun et al. 2020 (arXiv:2002.10857): s_p and s_n similarities of positives and
negatives, m relaxation, gamma scale.

    L = log( 1 + sum_j e^{gamma a_n^j (s_n^j - m)} * sum_i e^{-gamma a_p^i (s_p^i - 1 + m)} ),
    a_p = [1 + m - s_p]_+,  a_n = [s_n + m]_+,  both without gradient

xiaobu-embedding-v2 trains on every kind of task with it: several positives for an anchor, and
graded pairs by comparing those above with those below, where CoSENT is the same with a = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from opengte.errors import ConfigError
from opengte.losses.cosent import ordered_softplus
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.relations import Relations

_SLAB = 2**22
"""Similarities that are made at once."""


@dataclass(frozen=True, kw_only=True)
class CircleConfig:
    """Circle loss; xiaobu-embedding-v2's settings are not published.

    Attributes:
        kind: names this loss in a recipe.
        margin: m; paper: 0.25 (faces), 0.4 (fine-grained retrieval).
        gamma: the scale; paper: 256 (faces), 80 (fine-grained retrieval).
    """

    kind: Literal["circle"] = "circle"
    margin: float = 0.25
    gamma: float = 80.0

    def __post_init__(self) -> None:
        """Check the scale."""
        if not self.gamma > 0:
            raise ConfigError(f"gamma must be > 0, got {self.gamma}")


def circle_loss(batch: EmbeddedBatch, *, margin: float, gamma: float) -> Float[Tensor, ""]:
    """Pull what is far and should be near, push what is near and should be far.

    Of a batch with scores, pairs are compared: each is a positive for those below it. Otherwise
    queries are anchors: documents of rows with an equal label (its own among them) are
    positives; all others, and the hard negatives, are negatives.

    Args:
        batch: with ``scores``, or with labels, or plain pairs.
        margin: m.
        gamma: the scale.

    Returns:
        Mean over the anchors, in nats; for graded pairs one value for the whole batch.
    """
    if batch.scores is not None:
        return batch.share * _graded(batch, batch.scores, margin, gamma)
    slab = max(1, _SLAB // max(1, len(batch)))
    total = batch.nothing()
    for start in range(batch.anchors.start, batch.anchors.stop, slab):
        rows = slice(start, min(start + slab, batch.anchors.stop))
        # Made again in the backward pass, so that one slab of similarities lives at a time.
        part = checkpoint(
            _slab_loss, batch, rows, margin, gamma, use_reentrant=False, preserve_rng_state=False
        )
        total = total + part
    return total / len(batch)


def _graded(batch: EmbeddedBatch, scores: Tensor, margin: float, gamma: float) -> Float[Tensor, ""]:
    known = ~torch.isnan(scores)
    queries = _unit(batch, batch.queries[known])
    similarities = (queries * _unit(batch, batch.documents[known])).sum(1)
    low = negative_logits(similarities, margin, gamma)
    high = positive_logits(similarities, margin, gamma)
    return ordered_softplus(low, high, scores[known])


def positive_logits(
    similarities: Float[Tensor, "*n"], margin: float, gamma: float
) -> Float[Tensor, "*n"]:
    """-gamma a_p (s_p - 1 + m)."""
    weights = (1 + margin - similarities.detach()).clamp(min=0)
    return -gamma * weights * (similarities - 1 + margin)


def negative_logits(
    similarities: Float[Tensor, "*n"], margin: float, gamma: float
) -> Float[Tensor, "*n"]:
    """Gamma a_n (s_n - m)."""
    weights = (similarities.detach() + margin).clamp(min=0)
    return gamma * weights * (similarities - margin)


def _slab_loss(batch: EmbeddedBatch, rows: slice, margin: float, gamma: float) -> Float[Tensor, ""]:
    relations = Relations.of(batch)
    everything = slice(0, len(batch))
    queries = _unit(batch, batch.queries[rows])
    similarities = queries @ _unit(batch, batch.documents).T
    kin = relations.related_rows(rows, everything)
    assert kin is not None
    others = ~kin if batch.in_batch_negatives else torch.zeros_like(kin)
    above = _masked(negative_logits(similarities, margin, gamma), others)
    below = _masked(positive_logits(similarities, margin, gamma), kin)
    if batch.negatives is not None:
        everyone = slice(0, len(batch.negatives))
        found = negative_logits(queries @ _unit(batch, batch.negatives).T, margin, gamma)
        known = relations.related_negatives(rows, everyone)
        allowed = torch.ones_like(found, dtype=torch.bool) if known is None else ~known
        if not batch.in_batch_negatives:
            allowed &= relations.same_query(rows, everyone)
        above = torch.cat([above, _masked(found, allowed)], dim=1)
    return torch.nn.functional.softplus(above.logsumexp(1) + below.logsumexp(1)).sum()


def _unit(batch: EmbeddedBatch, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    return torch.nn.functional.normalize(vectors.to(batch.compute_dtype), dim=1)


def _masked(logits: Float[Tensor, "I J"], kept: Bool[Tensor, "I J"]) -> Float[Tensor, "I J"]:
    # Finite, so that a row with nothing left has gradient 0 and not NaN.
    return logits.masked_fill(~kept, torch.finfo(logits.dtype).min / 4)
