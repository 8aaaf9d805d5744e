from __future__ import annotations

import copy
import pickle

import pytest
import torch

from opengte.errors import ConfigError
from opengte.models import precision
from opengte.models.precision import CastLinear, resolve_dtype

CPU = torch.device("cpu")


def test_auto_takes_bfloat16_exactly_where_the_processor_has_units(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16_units", lambda: True)
    assert resolve_dtype("auto", CPU) == torch.bfloat16
    monkeypatch.setattr(precision, "cpu_has_bfloat16_units", lambda: False)
    assert resolve_dtype("auto", CPU) == torch.float32
    assert resolve_dtype("bfloat16", CPU) == torch.bfloat16
    assert resolve_dtype("float32", CPU) == torch.float32


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="dtype must be auto, float32 or bfloat16, got 'int4'"):
        resolve_dtype("int4", CPU)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return CastLinear(6, 5)


def test_float32_is_a_plain_linear_layer(layer):
    x = torch.randn(7, 6)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_bfloat16_gradients_are_those_of_the_cast_weights(bias):
    torch.manual_seed(0)
    layer = CastLinear(6, 5, bias=bias)
    x = torch.randn(3, 7, 6).bfloat16().requires_grad_()
    twin = copy.deepcopy(layer)
    y = x.detach().clone().requires_grad_()
    narrow_bias = twin.bias.bfloat16() if bias else None
    expected = torch.nn.functional.linear(y, twin.weight.bfloat16(), narrow_bias)
    weights = torch.randn(3, 7, 5).bfloat16()
    layer.train()
    (layer(x) * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(x.grad.float(), y.grad.float(), atol=0.05)
    assert layer.weight.grad.dtype == torch.float32
    assert torch.allclose(layer.weight.grad, twin.weight.grad, atol=0.1)
    if bias:
        assert torch.allclose(layer.bias.grad, twin.bias.grad, atol=0.1)


def test_kept_cast_weights_follow_every_write(layer):
    layer.eval()
    x = torch.randn(2, 6).bfloat16()
    with torch.no_grad():
        before = layer(x)
        assert layer._cast(torch.bfloat16)[0] is layer._cast(torch.bfloat16)[0]
        layer.weight.add_(1.0)
        after = layer(x)
        layer.load_state_dict(CastLinear(6, 5).state_dict())
        loaded = layer(x)
    assert not torch.equal(before, after)
    assert not torch.equal(after, loaded)


def test_an_optimizer_step_is_seen_in_evaluation_mode(layer):
    x = torch.randn(2, 6).bfloat16()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.5, fused=True)
    layer.eval()
    with torch.no_grad():
        before = layer(x)
    layer(x).sum().backward()
    optimizer.step()
    with torch.no_grad():
        assert not torch.equal(before, layer(x))


def test_writes_through_data_are_seen_after_a_look_or_a_mode_switch(layer):
    layer.eval()
    x = torch.randn(2, 6).bfloat16()
    with torch.no_grad():
        before = layer(x)
        layer.weight.data.mul_(2.0)
        layer.forget_cast()
        assert not torch.equal(before, layer(x))
        now = layer(x)
        layer.weight.data.mul_(2.0)
        layer.forget_if_changed()
        assert not torch.equal(now, layer(x))
        now = layer(x)
        layer.weight.data.mul_(2.0)
        layer.train().eval()
        assert not torch.equal(now, layer(x))


def test_kept_weights_are_not_copied_or_stored(layer):
    layer.eval()
    with torch.no_grad():
        layer(torch.randn(2, 6).bfloat16())
    kept = layer._kept
    layer.forget_if_changed()
    assert layer._kept is kept
    assert copy.deepcopy(layer)._kept is None
    assert pickle.loads(pickle.dumps(layer))._kept is None


def test_frozen_weights_pass_gradients_on(layer):
    layer.requires_grad_(False)
    x = torch.randn(2, 6).bfloat16().requires_grad_()
    layer(x).sum().backward()
    assert torch.allclose(x.grad.float(), layer.weight.sum(0).expand(2, -1), atol=0.05)
