"""The hard negatives that belong to each query: N logits, and no similarity matrix.

Axes: B pairs, N hard negatives, A anchors computed here.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from opengte.losses.form import ContrastiveForm
from opengte.losses.groups import grouped_logsumexp
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.relations import Relations
from opengte.losses.scaling import pair_logits, scaled_vectors


def own_negative_term(
    batch: EmbeddedBatch,
    form: ContrastiveForm,
    relations: Relations,
    temperature: float | Tensor,
    limits: Float[Tensor, " A"] | None,
) -> Float[Tensor, " A"]:
    """Log of the sum of e^logit over each anchor's own hard negatives; very small for none.

    Args:
        batch: the embeddings.
        form: the kind of similarity.
        relations: tells which negatives are known answers.
        temperature: tau.
        limits: what each anchor tolerates in a negative, or None.
    """
    owners, negatives = batch.negative_owners, batch.negatives
    assert owners is not None
    assert negatives is not None
    queries = scaled_vectors(batch.queries, form, temperature)[owners]
    logits = pair_logits(queries, scaled_vectors(negatives, form, temperature), form)
    places = owners - batch.anchors.start
    elsewhere = (places < 0) | (places >= len(batch.anchors))
    excluded = relations.known_answers() | elsewhere
    places = places.masked_fill(elsewhere, 0)
    if limits is not None and len(limits):
        excluded = excluded | (logits.detach() > limits[places])
    return grouped_logsumexp(logits, places, len(batch.anchors), excluded=excluded)
