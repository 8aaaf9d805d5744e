"""Circle loss equals its definition, and its weights carry no gradient."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from contrastive_reference import answers, document_label
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_strategies import batches

from opengte.errors import ConfigError
from opengte.losses import circle
from opengte.losses.circle import circle_loss
from opengte.losses.config import CircleConfig, InfoNCEConfig, make_loss
from opengte.losses.inputs import EmbeddedBatch


def cosine(x, y) -> float:
    return float(torch.dot(x, y) / x.norm() / y.norm())


def positive_term(s: float, margin: float, gamma: float) -> float:
    return math.exp(-gamma * max(0.0, 1 + margin - s) * (s - (1 - margin)))


def negative_term(s: float, margin: float, gamma: float) -> float:
    return math.exp(gamma * max(0.0, s + margin) * (s - margin))


def slow_circle(batch: EmbeddedBatch, margin: float, gamma: float) -> float:
    total = 0.0
    for i in batch.anchors:
        above = below = 0.0
        for j in range(len(batch)):
            s = cosine(batch.queries[i], batch.documents[j])
            kin = i == j or answers(batch, i, document_label(batch, j))
            if kin or answers(batch, j, document_label(batch, i)):
                below += positive_term(s, margin, gamma)
            elif batch.in_batch_negatives:
                above += negative_term(s, margin, gamma)
        owners = [] if batch.negative_owners is None else batch.negative_owners.tolist()
        for k, owner in enumerate(owners):
            label = None if batch.negative_labels is None else int(batch.negative_labels[k])
            labels = batch.query_labels
            own = owner == i if labels is None else labels[owner] == labels[i]
            if not answers(batch, i, label) and (own or batch.in_batch_negatives):
                s = cosine(batch.queries[i], batch.negatives[k])
                above += negative_term(s, margin, gamma)
        total += math.log(1 + above * below)
    return total / len(batch)


@settings(max_examples=80, deadline=None)
@given(batches(), st.sampled_from([0.25, 0.4]), st.sampled_from([1.0, 20.0]))
def test_equals_the_definition(batch, margin, gamma):
    found = circle_loss(batch, margin=margin, gamma=gamma)
    assert found.dtype == torch.float64
    expected = slow_circle(batch, margin, gamma)
    assert math.isclose(found.item(), expected, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=30, deadline=None)
@given(batches())
def test_slabs_change_neither_value_nor_gradient(batch):
    leaf = batch.queries.clone().requires_grad_()
    batch = replace(batch, queries=leaf)
    whole = circle_loss(batch, margin=0.25, gamma=10.0)
    expected = torch.autograd.grad(whole, leaf, materialize_grads=True, allow_unused=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(circle, "_SLAB", 1)
        sliced = circle_loss(batch, margin=0.25, gamma=10.0)
        found = torch.autograd.grad(sliced, leaf, materialize_grads=True, allow_unused=True)
    torch.testing.assert_close(sliced, whole)
    torch.testing.assert_close(found, expected)


def test_gradient_of_a_logit_is_its_weight():
    # Without a stop at the weights, the derivative would be 2 gamma (s - ...) instead.
    s = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(circle.positive_logits(s, 0.25, 80.0).sum(), s)
    torch.testing.assert_close(gradient, torch.tensor([-80 * (1.25 - 0.3)], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(circle.negative_logits(s, 0.25, 80.0).sum(), s)
    torch.testing.assert_close(gradient, torch.tensor([80 * (0.3 + 0.25)], dtype=torch.float64))


def test_graded_pairs_compare_those_above_with_those_below():
    generator = torch.Generator().manual_seed(0)
    q, d = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    y = [0.0, 0.5, 1.0, 0.5, math.nan, 0.2]
    total = 1.0
    for i in range(6):
        for j in range(6):
            if y[i] > y[j]:
                high = positive_term(cosine(q[i], d[i]), 0.25, 5.0)
                total += high * negative_term(cosine(q[j], d[j]), 0.25, 5.0)
    batch = EmbeddedBatch(q, d, scores=torch.tensor(y))
    found = circle_loss(batch, margin=0.25, gamma=5.0)
    assert math.isclose(found.item(), math.log(total), rel_tol=1e-9)


def test_gradient_differs_from_info_nce():
    q, d = torch.randn(5, 8), torch.randn(5, 8)

    def gradient(config):
        leaf = q.clone().requires_grad_()
        return torch.autograd.grad(make_loss(config)(EmbeddedBatch(leaf, d)), leaf)[0]

    mine, other = gradient(CircleConfig()), gradient(InfoNCEConfig(temperature=1 / 80))
    assert torch.nn.functional.cosine_similarity(mine.flatten(), other.flatten(), dim=0) < 0.999


def test_scale_must_be_positive():
    with pytest.raises(ConfigError, match=r"gamma must be > 0, got 0\.0"):
        CircleConfig(gamma=0.0)
