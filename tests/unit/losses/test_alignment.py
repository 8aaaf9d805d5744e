"""Alignment and uniformity equal their definitions; alignment alone is warned about."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.losses.alignment import alignment_mse_loss, uniformity_loss
from opengte.losses.config import (
    AlignmentMSEConfig,
    MatryoshkaConfig,
    UniformityConfig,
    WeightedSumConfig,
    make_loss,
)
from opengte.losses.inputs import EmbeddedBatch


def unit_pairs(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (size, 4)
    q, d = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return q, d


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000), st.sampled_from([0.5, 2.0]))
def test_equal_their_definitions(size, seed, sharpness):
    q, d = unit_pairs(size, seed)
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (q, d))
    alignment = sum(float(((a[i] - b[i]) ** 2).sum()) for i in range(size)) / size
    batch = EmbeddedBatch(q, d)
    assert math.isclose(alignment_mse_loss(batch).item(), alignment, rel_tol=1e-9)
    sides = []
    for x in (a, b):
        powers = [
            math.exp(-sharpness * float(((x[i] - x[j]) ** 2).sum()))
            for i in range(size)
            for j in range(size)
            if i != j
        ]
        sides.append(math.log(sum(powers) / len(powers)))
    found = uniformity_loss(batch, sharpness=sharpness)
    assert math.isclose(found.item(), sum(sides) / 2, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("loss", [alignment_mse_loss, uniformity_loss])
def test_ranks_add_up(loss):
    batch = EmbeddedBatch(*unit_pairs(7, 0))
    parts = [loss(replace(batch, rows=rows)) for rows in (range(3), range(3, 7))]
    torch.testing.assert_close(sum(parts), loss(batch))


def test_gradcheck():
    q, d = (x.requires_grad_() for x in unit_pairs(4, 1))
    assert torch.autograd.gradcheck(lambda q, d: uniformity_loss(EmbeddedBatch(q, d)), (q, d))
    assert torch.autograd.gradcheck(lambda q, d: alignment_mse_loss(EmbeddedBatch(q, d)), (q, d))


def test_one_pair_has_uniformity_zero_with_a_gradient_of_zero():
    q = torch.randn(1, 4, requires_grad=True)
    loss = uniformity_loss(EmbeddedBatch(q, torch.randn(1, 4)))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(q.grad, torch.zeros_like(q))


def test_alignment_does_not_vanish_with_more_dimensions():
    for dimensions in (4, 4096):
        eye = torch.eye(2, dimensions)
        assert alignment_mse_loss(EmbeddedBatch(eye, eye.flip(0))).item() == pytest.approx(2.0)


def test_alignment_alone_is_warned_about_and_in_company_it_is_not():
    with pytest.warns(UserWarning, match="alone is smallest when every text has the same"):
        make_loss(AlignmentMSEConfig())
    with pytest.warns(UserWarning, match="alone is smallest when every text has the same"):
        make_loss(MatryoshkaConfig(loss=AlignmentMSEConfig(), dimensions=(2,)))
    loss = make_loss(
        WeightedSumConfig(losses=(AlignmentMSEConfig(), UniformityConfig()), weights=(1.0, 0.5))
    )
    batch = EmbeddedBatch(*unit_pairs(5, 2))
    expected = alignment_mse_loss(batch) + 0.5 * uniformity_loss(batch)
    torch.testing.assert_close(loss(batch), expected)


def test_sharpness_must_be_positive():
    with pytest.raises(ConfigError, match=r"sharpness must be > 0, got 0\.0"):
        UniformityConfig(sharpness=0.0)
