"""Both libraries give one product, and linear layers learn by either."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from opengte import matrix_product as module
from opengte.matrix_product import matrix_product
from opengte.models import precision
from opengte.models.precision import CastLinear

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@pytest.fixture(
    params=[
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not HAS_ONEDNN, reason="torch has no oneDNN here")
        ),
    ]
)
def through_onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    for place in (module, precision):
        monkeypatch.setattr(place, "onednn_is_faster", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize("has_bias", [False, True])
def test_product_equals_float64(through_onednn: bool, has_bias: bool) -> None:
    left, right, bias = torch.randn(7, 33), torch.randn(33, 5), torch.randn(5)
    expected = left.double() @ right.double() + (bias.double() if has_bias else 0.0)
    found = matrix_product(left, right, bias if has_bias else None)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 12), (2, 5, 12)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_learning_layer_has_the_gradients_of_a_plain_one(
    through_onednn: bool, shape: tuple[int, ...], has_bias: bool
) -> None:
    layer = CastLinear(12, 7, bias=has_bias).train()
    x = torch.randn(shape, requires_grad=True)
    parameters = [x, *layer.parameters()]
    weights = torch.randn(*shape[:-1], 7)
    plain = functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), plain)
    found = torch.autograd.grad((layer(x) * weights).sum(), parameters)
    expected = torch.autograd.grad((plain * weights).sum(), parameters)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_pass_without_a_graph_gives_the_same_bits(through_onednn: bool) -> None:
    layer, x = CastLinear(32, 48).train(), torch.randn(50, 32)
    with torch.no_grad():
        replayed = layer(x)
    assert torch.equal(layer(x).detach(), replayed)


def test_frozen_weights_get_no_gradient(through_onednn: bool) -> None:
    layer, x = CastLinear(4, 3).train().requires_grad_(False), torch.randn(2, 4, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    assert layer.bias.grad is None
