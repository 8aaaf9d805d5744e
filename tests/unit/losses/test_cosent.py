"""CoSENT and AnglE equal their double sums over pairs of pairs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from opengte.errors import ConfigError, DataError
from opengte.losses.config import AnglEConfig, CoSENTConfig, make_loss
from opengte.losses.cosent import angle_loss, angle_similarity, cosent_loss, ordered_softplus
from opengte.losses.inputs import EmbeddedBatch


@st.composite
def graded_batches(draw: st.DrawFn) -> EmbeddedBatch:
    size, dimensions = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    grades = st.sampled_from([0.0, 0.2, 0.5, 1.0, math.nan])
    scores = draw(st.lists(grades, min_size=size, max_size=size))
    q, d = (
        torch.randn(size, dimensions, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    return EmbeddedBatch(q, d, scores=torch.tensor(scores))


def slow_cosine(x: Tensor, y: Tensor) -> float:
    return float(torch.dot(x, y) / x.norm() / y.norm())


def slow_angle(x: Tensor, y: Tensor) -> float:
    """The complex quotient, entry by entry."""
    x, y = x.tolist(), y.tolist()
    if len(x) % 2:
        x, y = [*x, 0.0], [*y, 0.0]
    half = len(x) // 2
    squared = sum(v * v for v in y)
    ratio = math.sqrt(sum(v * v for v in x)) / math.sqrt(squared)
    total = 0.0
    for k in range(half):
        a, b, c, d = x[k], x[half + k], y[k], y[half + k]
        quotient = complex(a, b) * complex(c, -d) / squared / ratio
        total += quotient.real + quotient.imag
    return abs(total)


def slow_loss(batch: EmbeddedBatch, similarity, temperature: float) -> float:
    s = [similarity(q, d) for q, d in zip(batch.queries, batch.documents, strict=True)]
    y = batch.scores.tolist()
    total = 1.0
    for i in range(len(y)):
        for j in range(len(y)):
            if y[i] > y[j]:
                total += math.exp((s[j] - s[i]) / temperature)
    return math.log(total)


@settings(max_examples=80, deadline=None)
@given(graded_batches(), st.sampled_from([0.01, 0.05, 1.0]))
def test_equals_the_double_sum(batch, temperature):
    for loss, similarity in ((cosent_loss, slow_cosine), (angle_loss, slow_angle)):
        found = loss(batch, temperature=temperature)
        assert found.dtype == torch.float64
        expected = slow_loss(batch, similarity, temperature)
        assert math.isclose(found.item(), expected, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=20, deadline=None)
@given(graded_batches())
def test_ranks_add_up(batch):
    whole = cosent_loss(batch, temperature=0.05)
    cut = len(batch) // 2
    parts = [
        cosent_loss(replace(batch, rows=rows), temperature=0.05)
        for rows in (range(cut), range(cut, len(batch)))
    ]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-12, atol=1e-12)


def test_gradcheck():
    generator = torch.Generator().manual_seed(0)
    low, high = (
        torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    scores = torch.tensor([0.1, 0.3, 0.3, 0.9, 0.1, 0.5])
    assert torch.autograd.gradcheck(lambda a, b: ordered_softplus(a, b, scores), (low, high))


def test_order_that_is_right_costs_nothing_and_reversed_order_costs_the_gap():
    axis = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    other = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    right = EmbeddedBatch(axis, other, scores=torch.tensor([1.0, 0.0]))
    wrong = replace(right, scores=torch.tensor([0.0, 1.0]))
    assert cosent_loss(right, temperature=0.05).item() < 1e-8
    assert math.isclose(cosent_loss(wrong, temperature=0.05).item(), 20, rel_tol=1e-8)


def test_angle_sees_a_quarter_turn_that_the_cosine_does_not():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert torch.nn.functional.cosine_similarity(x, y).item() == 0
    assert angle_similarity(x, y).item() == 1


def test_config_makes_the_loss():
    batch = EmbeddedBatch(torch.randn(5, 6), torch.randn(5, 6), scores=torch.rand(5))
    assert make_loss(CoSENTConfig(temperature=0.1))(batch) == cosent_loss(batch, temperature=0.1)
    assert make_loss(AnglEConfig(temperature=0.1))(batch) == angle_loss(batch, temperature=0.1)


def test_batch_without_scores_is_refused():
    batch = EmbeddedBatch(torch.randn(2, 3), torch.randn(2, 3))
    with pytest.raises(DataError, match="CoSENT needs scores, and this batch has none"):
        cosent_loss(batch, temperature=0.05)
    with pytest.raises(ConfigError, match="temperature must be > 0"):
        CoSENTConfig(temperature=0.0)
    with pytest.raises(ConfigError, match="temperature must be > 0"):
        AnglEConfig(temperature=0.0)
