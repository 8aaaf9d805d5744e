"""What a teacher says of a batch: scores of its pairs, or embeddings of its texts.

Axes: B pairs, N hard negatives in the order of their rows, E the teacher's embedding size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opengte.losses.inputs import EmbeddedBatch
from opengte.records import Batch

Column = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TeacherColumns:
    """Beside a batch, row for row; None where the teacher says nothing of the kind.

    Attributes:
        scores: of (query, positive), (B,).
        negative_scores: of (query, negative), (N,).
        queries, documents: its embeddings of both sides, (B, E).
    """

    scores: Column | None = None
    negative_scores: Column | None = None
    queries: Column | None = None
    documents: Column | None = None

    def put_into(self, batch: EmbeddedBatch) -> EmbeddedBatch:
        """The batch with the teacher's columns, on its device."""
        names = {
            "teacher_scores": self.scores,
            "negative_teacher_scores": self.negative_scores
            if batch.negatives is not None
            else None,
            "teacher_queries": self.queries,
            "teacher_documents": self.documents,
        }
        device = batch.queries.device
        given: dict[str, Any] = {
            name: torch.from_numpy(np.ascontiguousarray(column)).to(device)
            for name, column in names.items()
            if column is not None
        }
        return replace(batch, **given)


Teach = Callable[[Batch], TeacherColumns]
"""A batch -> what the teacher says of it; called beside the training, in another thread."""
