"""A teacher's scores or embeddings -> what the student should score or embed.

Axes: B pairs, N hard negatives, D embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.errors import ConfigError, DataError
from opengte.losses.groups import grouped_logsumexp
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.scaling import checked_temperature


@dataclass(frozen=True, kw_only=True)
class KLDistillationConfig:
    """Match a teacher's distribution over a query's document and its hard negatives.

    E5 (arXiv:2212.03533) adds 0.2 times a contrastive loss: see ``weighted_sum``.

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau of the student's cosines; E5: 0.01.
        teacher_temperature: what the teacher's scores are divided by; 1 for logits.
    """

    kind: Literal["kl_distillation"] = "kl_distillation"
    temperature: float = 0.01
    teacher_temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check both temperatures."""
        checked_temperature(self.temperature)
        checked_temperature(self.teacher_temperature)


@dataclass(frozen=True, kw_only=True)
class MarginMSEConfig:
    """Match a teacher's margins (Hofstätter et al. 2020, arXiv:2010.02666; GPL).

    Attributes:
        kind: names this loss in a recipe.
        similarity: of the student; paper and GPL: dot.
        scale: what the student's similarities are multiplied by; 1 for dot products.
    """

    kind: Literal["margin_mse"] = "margin_mse"
    similarity: Literal["dot", "cosine"] = "dot"
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the scale."""
        if not self.scale > 0:
            raise ConfigError(f"scale must be > 0, got {self.scale}")


@dataclass(frozen=True, kw_only=True)
class EmbeddingMSEConfig:
    """Match a teacher's embeddings: where both models have the same size, nothing collapses.

    Attributes:
        kind: names this loss in a recipe.
        normalise: compare unit vectors; otherwise the embeddings as they are.
    """

    kind: Literal["embedding_mse"] = "embedding_mse"
    normalise: bool = True


def kl_distillation_loss(
    batch: EmbeddedBatch, *, temperature: float, teacher_temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Mean over queries of KL(teacher | student) over the document and the own hard negatives.

        D = sum_c p(c) (log p(c) - log r(c)),  p = softmax(teacher / T),  r = softmax(cos / tau)

    Args:
        batch: must have ``teacher_scores`` and, with hard negatives, theirs too.
        temperature: tau.
        teacher_temperature: T.

    Raises:
        DataError: a score of the teacher is missing.
    """
    teacher = _candidates(
        batch,
        batch.given("teacher_scores", wanted_by="kl_distillation"),
        _negative_teacher_scores(batch, "kl_distillation"),
    )
    student = _candidates(batch, *_student_scores(batch, "cosine"))
    groups = _groups(batch)
    log_teacher = _log_softmax(teacher / teacher_temperature, groups, len(batch))
    log_student = _log_softmax(student / temperature, groups, len(batch))
    # 0 log 0 = 0: a candidate that the teacher rules out has no share.
    terms = log_teacher.exp() * (log_teacher.clamp(min=-1e4) - log_student)
    return terms[_is_anchor(batch, groups)].sum() / len(batch)


def margin_mse_loss(
    batch: EmbeddedBatch, *, similarity: Literal["dot", "cosine"] = "dot", scale: float = 1.0
) -> Float[Tensor, ""]:
    """Mean over hard negatives of ( (s(q, d) - s(q, n)) - (t(q, d) - t(q, n)) )^2.

    Args:
        batch: must have hard negatives and the teacher's scores of both sides.
        similarity: of the student.
        scale: what it is multiplied by.

    Raises:
        DataError: there are no hard negatives, or a score of the teacher is missing.
    """
    owners = batch.given("negative_owners", wanted_by="margin_mse")
    teacher = batch.given("teacher_scores", wanted_by="margin_mse")
    negative_teacher = batch.given("negative_teacher_scores", wanted_by="margin_mse")
    positive, negative = _student_scores(batch, similarity)
    margin = scale * (positive[owners] - negative)
    wanted = (teacher[owners] - negative_teacher).to(margin.dtype)
    errors = (margin - wanted).square()
    return errors[_is_anchor(batch, owners)].sum() / max(1, len(owners))


def embedding_mse_loss(batch: EmbeddedBatch, *, normalise: bool = True) -> Float[Tensor, ""]:
    """Mean over queries and documents of |x - t|^2, t being the teacher's embedding.

    Args:
        batch: must have ``teacher_queries`` or ``teacher_documents``; a side without is left out.
        normalise: compare unit vectors.

    Raises:
        DataError: the teacher embedded neither side, or in another size.
    """
    sides = [
        (own, teacher)
        for own, teacher in (
            (batch.queries, batch.teacher_queries),
            (batch.documents, batch.teacher_documents),
        )
        if teacher is not None
    ]
    if not sides:
        raise DataError("embedding_mse needs teacher_queries or teacher_documents, got neither")
    rows = slice(batch.anchors.start, batch.anchors.stop)
    total = batch.nothing()
    for own, teacher in sides:
        if own.shape != teacher.shape:
            raise DataError(
                f"the teacher's embeddings must have {own.shape[1]} values like the student's, "
                f"got {teacher.shape[1]}; give the student a projection of that size"
            )
        x, t = (v[rows].to(batch.compute_dtype) for v in (own, teacher))
        if normalise:
            x, t = (torch.nn.functional.normalize(v, dim=1) for v in (x, t))
        total = total + (x - t).square().sum()
    return total / (len(batch) * len(sides))


def _student_scores(
    batch: EmbeddedBatch, similarity: Literal["dot", "cosine"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " N"]]:
    """The student's score of each pair, and of each hard negative with its query."""
    queries, documents = (x.to(batch.compute_dtype) for x in (batch.queries, batch.documents))
    negatives, owners = batch.negatives, batch.negative_owners
    if negatives is None or owners is None:
        negatives = queries[:0]
        owners = torch.empty(0, dtype=torch.int64, device=queries.device)
    negatives = negatives.to(batch.compute_dtype)
    if similarity == "cosine":
        queries, documents, negatives = (
            torch.nn.functional.normalize(x, dim=1) for x in (queries, documents, negatives)
        )
    return (queries * documents).sum(1), (queries[owners] * negatives).sum(1)


def _negative_teacher_scores(batch: EmbeddedBatch, wanted_by: str) -> Float[Tensor, " N"]:
    if batch.negatives is None:
        return batch.given("teacher_scores", wanted_by=wanted_by)[:0]
    return batch.given("negative_teacher_scores", wanted_by=wanted_by)


def _candidates(batch: EmbeddedBatch, positive: Tensor, negative: Tensor) -> Float[Tensor, " C"]:
    return torch.cat([positive, negative]).to(batch.compute_dtype)


def _groups(batch: EmbeddedBatch) -> Tensor:
    """The row each candidate belongs to: documents first, then hard negatives."""
    rows = torch.arange(len(batch), device=batch.queries.device)
    return rows if batch.negative_owners is None else torch.cat([rows, batch.negative_owners])


def _is_anchor(batch: EmbeddedBatch, rows: Tensor) -> Tensor:
    return (rows >= batch.anchors.start) & (rows < batch.anchors.stop)


def _log_softmax(logits: Tensor, groups: Tensor, num_groups: int) -> Float[Tensor, " C"]:
    return logits - grouped_logsumexp(logits, groups, num_groups)[groups]
