"""What a loss is given: the embeddings of one batch, and what is known about its texts.

Axes: B pairs in the global batch, N hard negatives in it, D embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from opengte.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class EmbeddedBatch:
    """The embeddings of the global batch, equal on every rank but for ``rows``.

    Every loss divides by the *global* B and sums over ``rows`` alone, so the losses (and
    gradients) of ranks whose ``rows`` partition ``range(B)`` add up to those of one process
    that holds the whole batch.

    Attributes:
        queries: one embedding per query, of any length; losses normalise where they must.
        documents: row i answers row i of ``queries``.
        negatives: hard negatives, in any order, or None.
        negative_owners: the row whose hard negative each of ``negatives`` is.
        query_labels, document_labels: rows with equal labels hold the same text or class and
            are never each other's negatives; None = every text is its own.
        negative_labels: the numbering of ``document_labels``, for the hard negatives.
        scores: graded similarity of pair i, larger = closer; NaN where it is not known. For
            CoSENT, AnglE and the like.
        in_batch_negatives: whether the texts of other rows may serve as negatives.
        rows: the anchors (query i and document i) whose terms are computed here; None = all.
        teacher_scores: a teacher's score of pair i, for distillation.
        negative_teacher_scores: its scores of the hard negatives with their own queries.
        teacher_queries, teacher_documents: its embeddings, E values each.
    """

    queries: Float[Tensor, "B D"]
    documents: Float[Tensor, "B D"]
    negatives: Float[Tensor, "N D"] | None = None
    negative_owners: Int64[Tensor, " N"] | None = None
    query_labels: Int64[Tensor, " B"] | None = None
    document_labels: Int64[Tensor, " B"] | None = None
    negative_labels: Int64[Tensor, " N"] | None = None
    scores: Float[Tensor, " B"] | None = None
    in_batch_negatives: bool = True
    rows: range | None = None
    teacher_scores: Float[Tensor, " B"] | None = None
    negative_teacher_scores: Float[Tensor, " N"] | None = None
    teacher_queries: Float[Tensor, "B E"] | None = None
    teacher_documents: Float[Tensor, "B E"] | None = None

    def __post_init__(self) -> None:
        """Check that everything is about the same B pairs and N negatives."""
        if self.queries.ndim != 2 or self.queries.shape != self.documents.shape:
            raise DataError(
                "queries and documents must be equal in shape, (B, D), got "
                f"{tuple(self.queries.shape)} and {tuple(self.documents.shape)}"
            )
        self._check_negatives()
        for name in ("query_labels", "document_labels", "scores", "teacher_scores"):
            self._check_length(name, len(self))
        for name in ("teacher_queries", "teacher_documents"):
            values = getattr(self, name)
            if values is not None and (values.ndim != 2 or len(values) != len(self)):
                raise DataError(f"{name} must be ({len(self)}, E), got {tuple(values.shape)}")
        rows = self.rows
        if rows is not None and (rows.step != 1 or rows.start < 0 or rows.stop > len(self)):
            raise DataError(f"rows must be a part of range({len(self)}) with step 1, got {rows}")

    def _check_negatives(self) -> None:
        if self.negatives is None:
            for name in ("negative_owners", "negative_labels", "negative_teacher_scores"):
                if getattr(self, name) is not None:
                    raise DataError(f"{name} need negatives, got None")
            return
        if self.negatives.ndim != 2 or self.negatives.shape[1] != self.queries.shape[1]:
            raise DataError(
                f"negatives must be (N, {self.queries.shape[1]}) like the queries, "
                f"got {tuple(self.negatives.shape)}"
            )
        if self.negative_owners is None:
            raise DataError("negatives need negative_owners: the row each of them belongs to")
        self._check_length("negative_owners", len(self.negatives))
        self._check_length("negative_labels", len(self.negatives))
        self._check_length("negative_teacher_scores", len(self.negatives))
        if self.negative_labels is not None and self.document_labels is None:
            raise DataError("negative_labels need document_labels: one numbering for both")

    def _check_length(self, name: str, length: int) -> None:
        values = getattr(self, name)
        if values is not None and values.shape != (length,):
            raise DataError(f"{name} must be ({length},), got {tuple(values.shape)}")

    def __len__(self) -> int:
        return self.queries.shape[0]

    @property
    def anchors(self) -> range:
        """The rows whose terms are computed here."""
        return range(len(self)) if self.rows is None else self.rows

    @property
    def share(self) -> float:
        """The part of all rows that is computed here.

        A loss that is no sum over anchors is computed whole by every rank and multiplied by
        this, so that the ranks' losses still add up.
        """
        return len(self.anchors) / max(1, len(self))

    def nothing(self) -> Float[Tensor, ""]:
        """A loss of 0 that gradient can flow through: what a rank without rows must return."""
        return (self.queries[:0].sum() + self.documents[:0].sum()).to(self.compute_dtype)

    def given(self, name: str, *, wanted_by: str) -> Tensor:
        """An optional field that a loss cannot do without.

        Raises:
            DataError: the batch does not have it.
        """
        values = getattr(self, name)
        if values is None:
            raise DataError(f"{wanted_by} needs {name}, and this batch has none")
        return values

    def truncated(self, dimensions: int) -> EmbeddedBatch:
        """The batch as a model of fewer dimensions would embed it (Matryoshka).

        Raises:
            ConfigError: the embeddings have fewer dimensions than that.
        """
        if dimensions > self.queries.shape[1]:
            raise ConfigError(
                f"Matryoshka dimensions must be <= {self.queries.shape[1]}, the size of the "
                f"embeddings, got {dimensions}"
            )
        names = ("queries", "documents", "negatives")
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{k: x[:, :dimensions] for k, x in parts.items() if x is not None})

    @property
    def compute_dtype(self) -> torch.dtype:
        """float64 where the queries are; float32 for everything else, bf16 and fp16 included."""
        return torch.float64 if self.queries.dtype == torch.float64 else torch.float32
