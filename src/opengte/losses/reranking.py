"""Scores of a reranker -> one scalar: list-wise, or yes against no.

Axes: B queries, L candidates of each. Logits in, never probabilities.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from opengte.errors import DataError


def listwise_loss(
    scores: Float[Tensor, "B L"],
    positives: Bool[Tensor, "B L"] | None = None,
    candidates: Bool[Tensor, "B L"] | None = None,
) -> Float[Tensor, ""]:
    """InfoNCE over each query's list, as mGTE's reranker is trained (arXiv:2407.19669).

        L = -(1/B) sum_i mean over positives p of log( e^{s_ip} / (e^{s_ip} + sum_n e^{s_in}) )

    A list's positives are not each other's negatives.

    Args:
        scores: what the reranker says of each candidate.
        positives: which candidates answer the query; None = the first of each list.
        candidates: which places hold a candidate; None = all. Lists may be of any length.

    Returns:
        Nats per query.

    Raises:
        DataError: a list has no positive.
    """
    scores = _wide(scores)
    if positives is None:
        positives = torch.zeros_like(scores, dtype=torch.bool)
        positives[:, 0] = True
    candidates = torch.ones_like(positives) if candidates is None else candidates
    positives = positives & candidates
    if not bool(positives.any(dim=1).all()):
        row = int((~positives.any(dim=1)).nonzero()[0])
        raise DataError(f"every list needs a positive candidate, list {row} has none")
    nothing = torch.finfo(scores.dtype).min / 4
    negatives = scores.masked_fill(positives | ~candidates, nothing).logsumexp(1)
    losses = torch.nn.functional.softplus(negatives[:, None] - scores)
    means = (losses * positives).sum(1) / positives.sum(1)
    return means.mean()


def yes_no_loss(
    yes_logits: Float[Tensor, " B"], no_logits: Float[Tensor, " B"], labels: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Qwen3-Reranker's supervised loss: -log p(l | q, d), l in {yes, no} (arXiv:2506.05176).

    The softmax is taken over the two logits, as its code does; the paper prints e^p of
    probabilities.

    Args:
        yes_logits: the language model's logit of the token "yes" at the last place.
        no_logits: its logit of "no".
        labels: whether the document answers the query.

    Returns:
        Nats per pair.
    """
    margins = _wide(yes_logits) - _wide(no_logits)
    return torch.nn.functional.binary_cross_entropy_with_logits(margins, labels.to(margins.dtype))


def yes_no_scores(
    yes_logits: Float[Tensor, " B"], no_logits: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """The probability of "yes" among the two: what Qwen3-Reranker ranks by."""
    return torch.sigmoid(_wide(yes_logits) - _wide(no_logits))


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
