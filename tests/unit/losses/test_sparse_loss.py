"""mGTE's sparse loss: equals its definition, and ranks' parts add up."""

from __future__ import annotations

import math

import pytest
import torch

from opengte.errors import ConfigError
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.sparse import DenseAndSparseLoss, SparseConfig, sparse_contrastive_loss


def make_batch(**changes) -> EmbeddedBatch:
    draw = torch.Generator().manual_seed(0)

    def weights(rows: int) -> torch.Tensor:
        return torch.relu(torch.randn(rows, 9, generator=draw, dtype=torch.float64))

    given = {
        "queries": weights(5),
        "documents": weights(5),
        "negatives": weights(4),
        "negative_owners": torch.tensor([0, 0, 2, 4]),
    }
    return EmbeddedBatch(**{**given, **changes})


def by_definition(batch: EmbeddedBatch, temperature: float) -> float:
    total = 0.0
    for i in range(len(batch)):
        logits = []
        for j in range(len(batch)):
            same = batch.document_labels is not None and bool(
                batch.document_labels[i] == batch.document_labels[j]
            )
            if j == i or (batch.in_batch_negatives and not same):
                logits.append(float(batch.queries[i] @ batch.documents[j]) / temperature)
        for n, owner in enumerate(batch.negative_owners.tolist()):
            if batch.in_batch_negatives or owner == i:
                logits.append(float(batch.queries[i] @ batch.negatives[n]) / temperature)
        positive = float(batch.queries[i] @ batch.documents[i]) / temperature
        total += math.log(sum(math.exp(x) for x in logits)) - positive
    return total / len(batch)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("labels", [None, [0, 1, 2, 1, 3]])
def test_it_equals_its_definition(in_batch, labels):
    batch = make_batch(
        in_batch_negatives=in_batch,
        document_labels=None if labels is None else torch.tensor(labels),
    )
    found = sparse_contrastive_loss(batch, temperature=0.5)
    assert float(found) == pytest.approx(by_definition(batch, 0.5), abs=1e-10)


def test_the_parts_of_ranks_add_up():
    whole = sparse_contrastive_loss(make_batch(), temperature=0.2)
    parts = [
        sparse_contrastive_loss(make_batch(rows=rows), temperature=0.2)
        for rows in (range(0, 2), range(2, 5))
    ]
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-12)


def test_both_losses_are_added_with_their_weight():
    batch = make_batch()
    loss = DenseAndSparseLoss(
        lambda part: part.queries.sum(), 4, SparseConfig(weight=0.3, temperature=0.5)
    )
    lexical = make_batch(
        queries=batch.queries[:, 4:],
        documents=batch.documents[:, 4:],
        negatives=batch.negatives[:, 4:],
    )
    expected = batch.queries[:, :4].sum() + 0.3 * by_definition(lexical, 0.5)
    assert float(loss(batch)) == pytest.approx(float(expected), abs=1e-10)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"temperature must be > 0, got 0"):
        SparseConfig(temperature=0)
