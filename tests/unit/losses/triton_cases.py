"""The Triton kernels: the same value and gradient as the dense loss.

Run by ``test_triton`` in a process of its own, since Triton must be told before it is imported
that its interpreter is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from opengte.losses import fused_sums, tile_sums
from opengte.losses.contrastive import contrastive_loss
from opengte.losses.form import ContrastiveForm, improved_form, info_nce_form, qwen3_form
from opengte.losses.fused_sums import FusedSums
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.tiled import tiled_loss

FORMS = {
    "gte": improved_form(),
    "own negatives": improved_form(hard_negatives="own"),
    "one direction": info_nce_form(),
    "both directions": info_nce_form(direction="symmetric_mean"),
}


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Several blocks each way, the last ones not full."""
    with pytest.MonkeyPatch.context() as patch:
        kernels = fused_sums.import_kernels()
        for name in ("BLOCK_ROWS", "BLOCK_COLUMNS", "BLOCK_INNER", "BLOCK_OUT"):
            patch.setattr(kernels, name, 16)
        yield


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the fused passes that were made."""
    calls: list[str] = []
    for name in ("_by_shared_reference", "_add"):
        plain = getattr(FusedSums, name)

        def counted(self, *arguments, plain=plain, name=name):
            calls.append(name)
            return plain(self, *arguments)

        monkeypatch.setattr(FusedSums, name, counted)
    return calls


def make_batch(*, labels: bool, negatives: bool, size: int = 21, dimensions: int = 20):
    generator = torch.Generator().manual_seed(3)

    def vectors(count: int) -> Tensor:
        return torch.randn(count, dimensions, generator=generator)

    queries = vectors(size)
    documents = queries + 0.7 * vectors(size)
    number = 18 if negatives else 0
    # Equal documents stand with equal queries: no third row is needed to know who answers whom.
    document_labels = torch.arange(size) // 2 if labels else None
    return EmbeddedBatch(
        queries,
        documents,
        vectors(number) if number else None,
        torch.arange(number) % size if number else None,
        query_labels=document_labels,
        document_labels=document_labels,
        negative_labels=torch.arange(number) + 5 if labels and number else None,
    )


def with_gradients(loss, batch: EmbeddedBatch, form: ContrastiveForm, **settings):
    names = [n for n in ("queries", "documents", "negatives") if getattr(batch, n) is not None]
    leaves = {n: getattr(batch, n).detach().clone().requires_grad_() for n in names}
    tau = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    value = loss(replace(batch, **leaves), form, temperature=tau, **settings)
    inputs = (*leaves.values(), tau)
    return value.detach(), torch.autograd.grad(
        value, inputs, allow_unused=True, materialize_grads=True
    )


def relative_error(found: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> float:
    left, right = (torch.cat([x.double().flatten() for x in xs]) for xs in (found, exact))
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("labels", [False, True], ids=["distinct", "labelled"])
@pytest.mark.parametrize("negatives", [False, True], ids=["pairs", "triplets"])
def test_kernels_equal_the_dense_loss(form, labels, negatives, fused_calls):
    batch = make_batch(labels=labels, negatives=negatives)
    dense = with_gradients(contrastive_loss, batch, form)
    fused = with_gradients(tiled_loss, batch, form, kernel="triton")
    torch.testing.assert_close(fused[0], dense[0], rtol=1e-5, atol=1e-6)
    assert relative_error(fused[1], dense[1]) < 5e-5
    assert set(fused_calls) == {"_by_shared_reference", "_add"}


def test_ranks_that_partition_the_rows_add_up():
    batch = make_batch(labels=True, negatives=True)
    whole = with_gradients(tiled_loss, batch, improved_form(), kernel="triton")
    parts = [
        with_gradients(tiled_loss, replace(batch, rows=rows), improved_form(), kernel="triton")
        for rows in (range(0, 8), range(8, 21))
    ]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole[0], rtol=1e-5, atol=1e-6)
    total = tuple(a + b for a, b in zip(parts[0][1], parts[1][1], strict=True))
    assert relative_error(total, whole[1]) < 5e-5


def test_rounded_factors_keep_the_gradient_within_two_hundredths():
    batch = make_batch(labels=False, negatives=False)
    dense = with_gradients(contrastive_loss, batch, improved_form())
    fused = with_gradients(tiled_loss, batch, improved_form(), kernel="triton", products="bfloat16")
    assert relative_error(fused[1], dense[1]) < 2e-2


def test_what_the_kernels_do_not_know_is_left_to_the_tiles(fused_calls):
    batch = make_batch(labels=True, negatives=True)
    for form in (qwen3_form(), info_nce_form(positives="known")):
        dense = with_gradients(contrastive_loss, batch, form)
        tiled = with_gradients(tiled_loss, batch, form, kernel="triton")
        assert relative_error(tiled[1], dense[1]) < 5e-5
    assert fused_calls == []


def test_sums_out_of_range_are_left_to_the_running_maximum(fused_calls, monkeypatch):
    monkeypatch.setattr(tile_sums, "_METHODS", ("running_maximum",))
    batch = make_batch(labels=False, negatives=True)
    dense = with_gradients(contrastive_loss, batch, improved_form())
    tiled = with_gradients(tiled_loss, batch, improved_form(), kernel="triton")
    assert relative_error(tiled[1], dense[1]) < 5e-5
    assert fused_calls == []
