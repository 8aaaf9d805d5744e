"""MLM and RetroMAE equal -log p of the hidden tokens."""

from __future__ import annotations

import math

import torch

from opengte.losses.language_modelling import masked_language_modelling_loss, retromae_loss


def slow_mlm(logits: torch.Tensor, labels: torch.Tensor) -> float:
    total, count = 0.0, 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label != -100:
            total -= row[label] - math.log(sum(math.exp(v) for v in row))
            count += 1
    return total / max(1, count)


def given(num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_tokens)
    logits = torch.randn(num_tokens, 11, generator=generator, dtype=torch.float64)
    labels = torch.randint(11, (num_tokens,), generator=generator)
    return logits, labels.masked_fill(torch.rand(num_tokens, generator=generator) < 0.5, -100)


def test_mlm_is_the_mean_over_hidden_tokens():
    logits, labels = given(20)
    found = masked_language_modelling_loss(logits, labels)
    assert math.isclose(found.item(), slow_mlm(logits, labels), rel_tol=1e-9)


def test_nothing_hidden_costs_nothing():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = masked_language_modelling_loss(logits, torch.full((3,), -100))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_ranks_add_up_when_they_divide_by_all_hidden_tokens():
    logits, labels = given(20)
    count = int((labels != -100).sum())
    parts = [
        masked_language_modelling_loss(logits[k], labels[k], num_predicted=count)
        for k in (slice(0, 7), slice(7, 20))
    ]
    torch.testing.assert_close(sum(parts), masked_language_modelling_loss(logits, labels))


def test_retromae_adds_encoder_and_decoder():
    encoder, decoder = given(12), given(9)
    found = retromae_loss(*encoder, *decoder)
    assert math.isclose(found.item(), slow_mlm(*encoder) + slow_mlm(*decoder), rel_tol=1e-9)


def test_half_precision_logits_are_summed_in_float32():
    logits, labels = given(8)
    assert masked_language_modelling_loss(logits.bfloat16(), labels).dtype == torch.float32
