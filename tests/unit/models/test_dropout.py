from __future__ import annotations

import pytest
import torch

from opengte.models.dropout import add_dropout, dropout, keep_mask, keep_scale

SIZE = 200_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_share_of_dropped_elements_is_the_probability(dtype, probability):
    torch.manual_seed(0)
    out = dropout(torch.ones(SIZE, dtype=dtype), probability, training=True)
    share = (out == 0).float().mean().item()
    assert share == pytest.approx(probability, abs=5 * (0.25 / SIZE) ** 0.5)
    kept = out[out != 0].float()
    assert torch.allclose(kept, torch.full_like(kept, keep_scale(probability)), rtol=0.005)


def test_the_mean_is_kept():
    torch.manual_seed(0)
    out = dropout(torch.ones(SIZE), 0.1, training=True)
    assert out.mean().item() == pytest.approx(1.0, abs=0.004)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = (keep_mask(torch.ones(SIZE), 0.3) != 0).float()
    centred = kept - kept.mean()
    for distance in (1, 2, 3, 4, 8):
        correlation = (centred[:-distance] * centred[distance:]).mean() / centred.var()
        assert abs(correlation.item()) < 0.01


def test_the_gradient_passes_where_the_value_did():
    torch.manual_seed(0)
    values = torch.randn(1000, requires_grad=True)
    residual = torch.randn(1000, requires_grad=True)
    out = add_dropout(residual, values, 0.4, training=True)
    weights = torch.randn(1000)
    (out * weights).sum().backward()
    factor = ((out - residual) / values).detach()
    assert torch.allclose(values.grad, factor * weights, atol=1e-4)
    assert torch.equal(residual.grad, weights)


@pytest.mark.parametrize("length", [1, 3, 5, 1001])
def test_sizes_that_are_no_multiple_of_four(length):
    assert dropout(torch.ones(length), 0.5, training=True).shape == (length,)


def test_it_follows_the_seed():
    def draw():
        torch.manual_seed(7)
        return dropout(torch.ones(100), 0.5, training=True)

    assert torch.equal(draw(), draw())


def test_nothing_is_dropped_outside_training_or_at_zero():
    values = torch.randn(10)
    assert dropout(values, 0.5, training=False) is values
    assert dropout(values, 0.0, training=True) is values
    assert torch.equal(add_dropout(values, values, 0.5, training=False), values * 2)


def test_other_number_formats_fall_back_to_torch():
    torch.manual_seed(0)
    out = dropout(torch.ones(1000, dtype=torch.float64), 0.5, training=True)
    assert 300 < (out == 0).sum() < 700
