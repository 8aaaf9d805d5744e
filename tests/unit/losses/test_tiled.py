"""The tiled loss equals the dense one, in value and gradient, whatever the batch looks like."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_strategies import batches, forms, temperatures
from torch import Tensor

from opengte.losses.contrastive import contrastive_loss
from opengte.losses.form import ContrastiveForm
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.tiled import tiled_loss


def with_gradients(
    loss, batch: EmbeddedBatch, form: ContrastiveForm, temperature: float, **settings
) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = [
        x.detach().clone().requires_grad_()
        for x in (batch.queries, batch.documents, batch.negatives)
        if x is not None
    ]
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    negatives = leaves[2] if len(leaves) > 2 else None
    batch = replace(batch, queries=leaves[0], documents=leaves[1], negatives=negatives)
    value = loss(batch, form, temperature=tau, **settings)
    inputs = (*leaves, tau)
    return value.detach(), torch.autograd.grad(
        value, inputs, allow_unused=True, materialize_grads=True
    )


def assert_equal(left, right, *, rtol: float, atol: float = 1e-9) -> None:
    torch.testing.assert_close(left[0], right[0], rtol=rtol, atol=atol)
    for a, b in zip(left[1], right[1], strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol * max(1.0, float(b.abs().max())))


@settings(max_examples=200, deadline=None)
@given(batches(), forms, temperatures, st.integers(1, 4))
def test_equals_the_dense_loss_in_float64(batch, form, temperature, tile_size):
    dense = with_gradients(contrastive_loss, batch, form, temperature)
    tiled = with_gradients(tiled_loss, batch, form, temperature, tile_size=tile_size)
    assert_equal(tiled, dense, rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(batches(), forms, st.sampled_from([0.01, 0.05]), st.integers(1, 4))
def test_float32_is_as_close_to_float64_as_the_dense_loss(batch, form, temperature, tile_size):
    if form.false_negative_margin is not None:
        form = replace(form, false_negative_margin=None)  # a step: rounding may cross it
    exact = with_gradients(contrastive_loss, batch, form, temperature)
    halves = {
        name: None if getattr(batch, name) is None else getattr(batch, name).float()
        for name in ("queries", "documents", "negatives")
    }
    single = replace(batch, **halves)
    tiled = with_gradients(tiled_loss, single, form, temperature, tile_size=tile_size)
    assert tiled[0].dtype == torch.float32
    # Logits of size s / tau carry an absolute error of 2^-24 s / tau.
    largest = 2 / temperature if form.similarity == "cosine" else 60 / temperature
    error = 3e-7 * largest
    assert abs(tiled[0].double() - exact[0]) <= error * (1 + exact[0].abs())
    for a, b in zip(tiled[1][:-1], exact[1][:-1], strict=True):
        assert (a.double() - b).norm() <= 4 * error * (1 + b.norm()) * (1 + b.norm())
