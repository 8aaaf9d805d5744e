"""The dense contrastive family equals its definition, whatever the batch looks like."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from contrastive_reference import slow_contrastive_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_strategies import batches, forms, temperatures

from opengte.errors import ConfigError, DataError
from opengte.losses.config import ImprovedContrastiveConfig, InfoNCEConfig, make_loss
from opengte.losses.contrastive import (
    contrastive_loss,
    improved_contrastive_loss,
    info_nce_loss,
)
from opengte.losses.form import improved_form
from opengte.losses.inputs import EmbeddedBatch


@settings(max_examples=150, deadline=None)
@given(batches(), forms, temperatures)
def test_equals_the_definition_in_float64(batch, form, temperature):
    fast = contrastive_loss(batch, form, temperature=temperature)
    assert fast.dtype == torch.float64
    slowly = slow_contrastive_loss(batch, form, temperature=temperature)
    assert math.isclose(fast.item(), slowly, rel_tol=1e-9, abs_tol=1e-9)


def test_gte_formula_as_printed():
    generator = torch.Generator().manual_seed(0)
    q, d = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    cosine = torch.nn.functional.cosine_similarity
    total = 0.0
    for i in range(5):
        z = 0.0
        for j in range(5):
            z += math.exp(cosine(q[i], d[j], dim=0) / 0.05)
            z += math.exp(cosine(q[j], d[i], dim=0) / 0.05)
            if j != i:
                z += math.exp(cosine(q[i], q[j], dim=0) / 0.05)
                z += math.exp(cosine(d[j], d[i], dim=0) / 0.05)
        total -= math.log(math.exp(cosine(q[i], d[i], dim=0) / 0.05) / z)
    loss = improved_contrastive_loss(q, d, temperature=0.05)
    assert math.isclose(loss.item(), total / 5, rel_tol=1e-9)


def test_perfect_separation_reaches_log_2_or_zero():
    eye = torch.eye(8, dtype=torch.float64)
    twice = improved_contrastive_loss(eye, eye, temperature=0.01)
    once = improved_contrastive_loss(eye, eye, temperature=0.01, count_positive_twice=False)
    assert math.isclose(twice.item(), math.log(2), rel_tol=1e-9)
    assert once.item() < 1e-9


def test_info_nce_is_cross_entropy_over_the_score_matrix():
    generator = torch.Generator().manual_seed(1)
    q, d = (torch.randn(6, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    normalise = torch.nn.functional.normalize
    scores = normalise(q, dim=1) @ normalise(d, dim=1).T / 0.05
    target = torch.arange(6)
    forward = torch.nn.functional.cross_entropy(scores, target)
    backward = torch.nn.functional.cross_entropy(scores.T, target)
    for direction, expected in (
        ("query_to_document", forward),
        ("symmetric_mean", (forward + backward) / 2),
        ("symmetric_sum", forward + backward),
    ):
        loss = info_nce_loss(q, d, temperature=0.05, direction=direction)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)


def test_squared_distance_of_unit_vectors_is_cosine():
    generator = torch.Generator().manual_seed(2)
    q, d = (torch.randn(6, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    q, d = (torch.nn.functional.normalize(x, dim=1) for x in (q, d))
    cosine = improved_form()
    distance = replace(cosine, similarity="squared_distance")
    batch = EmbeddedBatch(q, d)
    torch.testing.assert_close(
        contrastive_loss(batch, cosine, temperature=0.01),
        contrastive_loss(batch, distance, temperature=0.01),
        rtol=1e-9,
        atol=1e-9,
    )


@settings(max_examples=40, deadline=None)
@given(batches(), forms, st.integers(1, 4))
def test_ranks_that_partition_the_rows_add_up(batch, form, num_ranks):
    def run(rows: range) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        leaves = [
            x.clone().requires_grad_()
            for x in (batch.queries, batch.documents, batch.negatives)
            if x is not None
        ]
        part = replace(
            batch,
            queries=leaves[0],
            documents=leaves[1],
            negatives=leaves[2] if len(leaves) > 2 else None,
            rows=rows,
        )
        loss = contrastive_loss(part, form, temperature=0.05)
        return loss, torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)

    size = len(batch)
    edges = [size * r // num_ranks for r in range(num_ranks + 1)]
    parts = [run(range(a, b)) for a, b in itertools.pairwise(edges)]
    whole, gradients = run(range(size))
    torch.testing.assert_close(sum(p[0] for p in parts), whole, rtol=1e-10, atol=1e-10)
    for k, gradient in enumerate(gradients):
        torch.testing.assert_close(sum(p[1][k] for p in parts), gradient, rtol=1e-9, atol=1e-10)


def test_float32_and_bfloat16_embeddings_are_computed_in_float32():
    q, d = torch.randn(4, 8), torch.randn(4, 8)
    assert improved_contrastive_loss(q, d, temperature=0.01).dtype == torch.float32
    low = improved_contrastive_loss(q.bfloat16(), d.bfloat16(), temperature=0.01)
    assert low.dtype == torch.float32


def test_equal_labels_take_a_text_out_of_every_block():
    generator = torch.Generator().manual_seed(3)
    q, d = (torch.randn(4, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([0, 1, 0, 2])
    loss = improved_contrastive_loss(q, d, temperature=0.05, document_labels=labels)
    moved = d.clone()
    moved[2] = torch.randn(8, generator=generator, dtype=torch.float64)
    batch = EmbeddedBatch(q, d, document_labels=labels, rows=range(1))
    there = EmbeddedBatch(q, moved, document_labels=labels, rows=range(1))
    form = improved_form()
    assert loss.isfinite()
    assert contrastive_loss(batch, form, temperature=0.05) == contrastive_loss(
        there, form, temperature=0.05
    )


def test_gradcheck():
    generator = torch.Generator().manual_seed(4)
    q, d, n = (
        torch.randn(size, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in (3, 3, 4)
    )
    owners = torch.tensor([0, 0, 2, 1])

    def loss(q, d, n):
        return improved_contrastive_loss(q, d, temperature=0.5, negatives=n, negative_owners=owners)

    assert torch.autograd.gradcheck(loss, (q, d, n))


def test_config_gives_the_same_loss():
    q, d = torch.randn(5, 8), torch.randn(5, 8)
    batch = EmbeddedBatch(q, d)
    loss = make_loss(ImprovedContrastiveConfig(temperature=0.02, query_query=False))
    expected = improved_contrastive_loss(q, d, temperature=0.02, query_query=False)
    assert loss(batch) == expected
    loss = make_loss(InfoNCEConfig(temperature=0.02, direction="symmetric_sum"))
    assert loss(batch) == info_nce_loss(q, d, temperature=0.02, direction="symmetric_sum")


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature):
    x = torch.randn(2, 3)
    message = f"temperature must be > 0, got {temperature}"
    with pytest.raises(ConfigError, match=message):
        improved_contrastive_loss(x, x, temperature=temperature)
    with pytest.raises(ConfigError, match=message):
        ImprovedContrastiveConfig(temperature=temperature)


def test_batch_of_mismatched_tensors_is_refused():
    x, owners = torch.randn(3, 4), torch.tensor([0])
    with pytest.raises(DataError, match=r"queries and documents must be equal in shape"):
        EmbeddedBatch(x, x[:2])
    with pytest.raises(DataError, match=r"negatives must be \(N, 4\) like the queries"):
        EmbeddedBatch(x, x, torch.randn(1, 5), owners)
    with pytest.raises(DataError, match=r"negatives need negative_owners"):
        EmbeddedBatch(x, x, x)
    with pytest.raises(DataError, match=r"negative_owners must be \(3,\), got \(1,\)"):
        EmbeddedBatch(x, x, x, owners)
    with pytest.raises(DataError, match=r"negative_owners need negatives, got None"):
        EmbeddedBatch(x, x, negative_owners=owners)
    with pytest.raises(DataError, match=r"negative_labels need document_labels"):
        EmbeddedBatch(x, x, x[:1], owners, negative_labels=owners)
    with pytest.raises(DataError, match=r"rows must be a part of range\(3\)"):
        EmbeddedBatch(x, x, rows=range(2, 5))
    with pytest.raises(DataError, match=r"scores must be \(3,\), got \(2,\)"):
        EmbeddedBatch(x, x, scores=torch.zeros(2))
