"""Many-to-many positives: the mean logit of everything that is known to answer.

Axes: B pairs, D embedding size, A anchors computed here.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.losses.form import ContrastiveForm, Side
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.relations import Relations
from opengte.losses.scaling import scaled_vectors


def positive_means(
    batch: EmbeddedBatch,
    form: ContrastiveForm,
    temperature: float | Tensor,
) -> dict[Side, Float[Tensor, " A"]]:
    """The mean logit of each anchor's known positives, seen from its query and its document.

    A mean of inner products is the inner product with a mean vector, so that no matrix of
    pairs is made however many positives there are.

    Args:
        batch: the embeddings.
        form: nothing is computed unless it asks for known positives.
        temperature: tau.
    """
    if form.positives == "own":
        return {}
    relations = Relations.of(batch)
    rows = slice(batch.anchors.start, batch.anchors.stop)
    queries = scaled_vectors(batch.queries, form, temperature)
    documents = scaled_vectors(batch.documents, form, temperature)
    answers = relations.mean_of_answers(_with_offset(documents, form))[rows]
    answered = relations.mean_of_answered(_with_offset(queries, form))[rows]
    return {
        "query": _logits(queries[rows], answers, form),
        "document": _logits(documents[rows], answered, form),
    }


def _with_offset(vectors: Float[Tensor, "B D"], form: ContrastiveForm) -> Float[Tensor, "B D+1"]:
    """Vectors, and what each adds to its logits."""
    offsets = vectors.new_zeros(len(vectors), 1)
    if form.similarity == "squared_distance":
        offsets = vectors.square().sum(1, keepdim=True) / -2
    return torch.cat([vectors, offsets], dim=1)


def _logits(
    left: Float[Tensor, "A D"], means: Float[Tensor, "A D+1"], form: ContrastiveForm
) -> Float[Tensor, " A"]:
    logits = (left * means[:, :-1]).sum(1) + means[:, -1]
    if form.similarity == "squared_distance":
        logits = logits - left.square().sum(1) / 2
    return logits
