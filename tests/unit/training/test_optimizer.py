from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from opengte.models.encoder import Encoder
from opengte.training.config import TrainingConfig
from opengte.training.optimizer import (
    LossScaler,
    clip_gradients,
    decayed_names,
    gradient_norm,
    make_optimizer,
    trainable_parameters,
)

NewEncoder = Callable[..., Encoder]


def test_decays_matrices_but_no_norms_and_no_biases(new_encoder: NewEncoder) -> None:
    encoder = new_encoder()
    decayed = decayed_names(encoder)
    assert decayed
    for name, parameter in encoder.named_parameters():
        expected = not (name.endswith("bias") or ".norm." in name)
        assert (name in decayed) == expected, name
        assert parameter.ndim >= 2 or name not in decayed


def test_a_norm_with_a_matrix_gain_is_not_decayed() -> None:
    module = nn.Sequential(nn.LayerNorm((2, 3)), nn.Linear(3, 3))
    assert decayed_names(module) == {"1.weight"}


def test_groups_hold_every_parameter_once(new_encoder: NewEncoder) -> None:
    encoder = new_encoder()
    parameters = trainable_parameters(encoder)
    optimizer = make_optimizer(parameters, decayed_names(encoder), TrainingConfig())
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, encoder.parameters()))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]


def test_clips_like_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 7), nn.Linear(5, 7)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        a.grad = torch.randn_like(a) * 10
        b.grad = a.grad.clone()
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    norm = gradient_norm(ours.parameters())
    clip_gradients(list(ours.parameters()), norm, 1.0)
    torch.testing.assert_close(norm, expected)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-5)


def test_small_gradients_are_left_alone() -> None:
    layer = nn.Linear(2, 2)
    for p in layer.parameters():
        p.grad = torch.full_like(p, 0.01)
    clip_gradients(list(layer.parameters()), gradient_norm(layer.parameters()), 1.0)
    assert all(bool((p.grad == 0.01).all()) for p in layer.parameters() if p.grad is not None)


def test_scaler_halves_after_an_overflow_and_doubles_after_good_steps() -> None:
    scaler = LossScaler(enabled=True, scale=8.0, growth_interval=2)
    scaler.update(float("inf"))
    assert scaler.scale == 4.0
    scaler.update(1.0)
    scaler.update(1.0)
    assert scaler.scale == 8.0


def test_scaler_state_comes_back() -> None:
    scaler = LossScaler(enabled=True, growth_interval=3)
    scaler.update(1.0)
    other = LossScaler(enabled=True, growth_interval=3)
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()


def test_a_scaler_that_is_off_changes_nothing() -> None:
    scaler = LossScaler(enabled=False)
    scaler.update(float("inf"))
    assert scaler.scale == 1.0
    assert not scaler.may_overflow


def test_a_scale_below_one_is_not_to_blame_for_an_overflow() -> None:
    scaler = LossScaler(enabled=True, scale=1.0)
    assert scaler.may_overflow
    scaler.update(float("inf"))
    assert not scaler.may_overflow
