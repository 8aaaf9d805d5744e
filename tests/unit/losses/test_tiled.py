"""The tiled loss equals the dense one, in value and gradient, whatever the batch looks like."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_strategies import batches, forms, temperatures
from torch import Tensor

from opengte.errors import ConfigError
from opengte.losses import tile_sums
from opengte.losses.contrastive import contrastive_loss
from opengte.losses.form import ContrastiveForm, improved_form, info_nce_form, qwen3_form
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.products import BFloat16Products, ExactProducts
from opengte.losses.tiled import tiled_contrastive_loss, tiled_loss


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
    gradients = torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
    return value.detach(), gradients


def assert_equal(left, right, *, rtol: float, atol: float = 1e-9) -> None:
    torch.testing.assert_close(left[0], right[0], rtol=rtol, atol=atol)
    for a, b in zip(left[1], right[1], strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol * max(1.0, float(b.abs().max())))


def relative_error(found: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> float:
    """Frobenius norm of the difference of whole gradients over that of the exact one."""
    left, right = (torch.cat([x.double().flatten() for x in xs]) for xs in (found, exact))
    return float((left - right).norm() / right.norm())


def cosine(found: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> float:
    left, right = (torch.cat([x.double().flatten() for x in xs]) for xs in (found, exact))
    return float(torch.dot(left, right) / left.norm() / right.norm())


def halved(batch: EmbeddedBatch, dtype: torch.dtype = torch.float32) -> EmbeddedBatch:
    names = ("queries", "documents", "negatives")
    values = {n: getattr(batch, n) for n in names if getattr(batch, n) is not None}
    return replace(batch, **{n: x.to(dtype) for n, x in values.items()})


@settings(max_examples=200, deadline=None)
@given(batches(), forms, temperatures, st.integers(1, 4))
def test_equals_the_dense_loss_in_float64(batch, form, temperature, tile_size):
    dense = with_gradients(contrastive_loss, batch, form, temperature)
    tiled = with_gradients(tiled_loss, batch, form, temperature, tile_size=tile_size)
    assert_equal(tiled, dense, rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(batches(), forms, temperatures, st.integers(1, 4))
def test_running_maximum_equals_the_dense_loss(batch, form, temperature, tile_size):
    dense = with_gradients(contrastive_loss, batch, form, temperature)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_sums, "_METHODS", ("running_maximum",))
        tiled = with_gradients(tiled_loss, batch, form, temperature, tile_size=tile_size)
    assert_equal(tiled, dense, rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(batches(), forms, st.integers(1, 4), st.integers(1, 3))
def test_ranks_that_partition_the_rows_add_up(batch, form, num_ranks, tile_size):
    def run(rows: range) -> tuple[Tensor, tuple[Tensor, ...]]:
        part = replace(batch, rows=rows)
        return with_gradients(tiled_loss, part, form, 0.05, tile_size=tile_size)

    size = len(batch)
    edges = [size * r // num_ranks for r in range(num_ranks + 1)]
    parts = [run(range(a, b)) for a, b in itertools.pairwise(edges)]
    whole = run(range(size))
    total = (sum(p[0] for p in parts), tuple(map(sum, zip(*(p[1] for p in parts), strict=True))))
    assert_equal(total, whole, rtol=1e-9)


@pytest.mark.parametrize(
    ("similarity", "products"),
    [("cosine", "exact"), ("squared_distance", "exact"), ("cosine", "bfloat16")],
)
def test_gradcheck(similarity, products):
    generator = torch.Generator().manual_seed(4)
    q, d, n = (
        torch.randn(size, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in (4, 4, 5)
    )
    tau = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    owners = torch.tensor([0, 0, 2, 1, 3])
    labels = torch.tensor([0, 1, 0, 2])
    form = replace(improved_form(), similarity=similarity)

    def loss(q, d, n, tau):
        batch = EmbeddedBatch(q, d, n, owners, document_labels=labels)
        return tiled_loss(batch, form, temperature=tau, tile_size=2, products=products)

    assert torch.autograd.gradcheck(loss, (q, d, n, tau))


FORMS = {
    "gte": improved_form(),
    "info_nce": info_nce_form(direction="symmetric_mean"),
    "qwen3": qwen3_form(),
}


@pytest.fixture(scope="module", params=["minilm", "random", "strangers"])
def wide_batch(request: pytest.FixtureRequest) -> EmbeddedBatch:
    """Real embeddings of matched pairs, random ones, and real ones that do not match."""
    if request.param == "random":
        generator = torch.Generator().manual_seed(0)
        x, y = (torch.randn(200, 64, generator=generator, dtype=torch.float64) for _ in range(2))
        return EmbeddedBatch(x, y + x / 2)
    queries, documents = request.getfixturevalue("minilm_pairs")
    if request.param == "strangers":
        documents = documents.roll(1, dims=0)
    return EmbeddedBatch(queries.double(), documents.double())


@pytest.mark.parametrize("temperature", [0.01, 0.05])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_float32_is_as_close_to_float64_as_the_dense_loss(wide_batch, form, temperature):
    exact = with_gradients(contrastive_loss, wide_batch, form, temperature)
    single = halved(wide_batch)
    dense = with_gradients(contrastive_loss, single, form, temperature)
    tiled = with_gradients(tiled_loss, single, form, temperature, tile_size=64)
    assert tiled[0].dtype == torch.float32
    assert math.isclose(tiled[0].item(), exact[0].item(), rel_tol=1e-5)
    error = relative_error(tiled[1], exact[1])
    assert error <= max(1e-5, 4 * relative_error(dense[1], exact[1]))


@pytest.mark.parametrize("temperature", [0.01, 0.05])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_bfloat16_products_keep_the_gradient_within_two_hundredths(wide_batch, form, temperature):
    exact = with_gradients(contrastive_loss, wide_batch, form, temperature)[1][:2]
    single = halved(wide_batch)
    tiled = with_gradients(tiled_loss, single, form, temperature, products="bfloat16")[1][:2]
    assert relative_error(tiled, exact) <= 2e-2
    assert cosine(tiled, exact) >= 0.999


def test_bfloat16_logits_are_finest_where_they_are_large():
    generator = torch.Generator().manual_seed(5)
    x = torch.nn.functional.normalize(torch.randn(64, 384, generator=generator), dim=1) * 11.85
    exact = x.bfloat16().double() @ x.bfloat16().double().T
    levels = torch.full((64,), 70.0)
    found = BFloat16Products(x, levels).logits(slice(0, 64), slice(0, 64))
    near = exact > 130
    assert near.sum() == 64
    error = (found.double() - exact)[near].abs()
    plain = ((x.bfloat16() @ x.bfloat16().T).double() - exact)[near].abs()
    assert error.max() <= 2**-5
    assert plain.mean() > 8 * error.mean()


def test_logits_out_of_float32_range_take_the_running_maximum():
    # Lengths of 30 to 70: squared distances of thousands, at temperature 0.01.
    generator = torch.Generator().manual_seed(6)
    q = torch.randn(9, 5, generator=generator, dtype=torch.float64) * 30
    d = torch.randn(9, 5, generator=generator, dtype=torch.float64) * 30
    form = replace(improved_form(), similarity="squared_distance")
    batch = EmbeddedBatch(q, d)
    exact = with_gradients(contrastive_loss, batch, form, 0.01)
    tiled = with_gradients(tiled_loss, halved(batch), form, 0.01, tile_size=4)
    assert math.isclose(tiled[0].item(), exact[0].item(), rel_tol=1e-5)
    assert relative_error(tiled[1][:2], exact[1][:2]) < 1e-4


def test_opposite_texts_do_not_vanish_from_the_sums():
    # Every cosine is -1: the sums are below float32's smallest number times the reference.
    ones = torch.ones(2, 4)
    loss = tiled_contrastive_loss(ones, -ones, temperature=0.01, form=info_nce_form())
    assert math.isclose(loss.item(), math.log(2), rel_tol=1e-5)


@pytest.mark.parametrize("loss", [contrastive_loss, tiled_loss])
def test_autocast_does_not_round_the_logits(loss):
    generator = torch.Generator().manual_seed(7)
    q, d = (torch.randn(40, 32, generator=generator, requires_grad=True) for _ in range(2))
    plain = loss(EmbeddedBatch(q, d), improved_form(), temperature=0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss(EmbeddedBatch(q, d), improved_form(), temperature=0.01)
    assert torch.equal(cast, plain)
    for a, b in zip(
        torch.autograd.grad(cast, (q, d)), torch.autograd.grad(plain, (q, d)), strict=True
    ):
        assert torch.equal(a, b)


def test_autocast_does_not_round_the_tiles_of_the_backward_pass():
    generator = torch.Generator().manual_seed(8)
    q, d = (torch.randn(40, 32, generator=generator, requires_grad=True) for _ in range(2))
    plain = torch.autograd.grad(tiled_contrastive_loss(q, d, temperature=0.01), (q, d))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = torch.autograd.grad(tiled_contrastive_loss(q, d, temperature=0.01), (q, d))
    for a, b in zip(cast, plain, strict=True):
        assert torch.equal(a, b)


def test_coarse_products_of_distances_are_refused():
    x = torch.randn(2, 3)
    form = info_nce_form(similarity="squared_distance")
    with pytest.raises(ConfigError, match="products bfloat16 need similarity cosine, got squared"):
        tiled_contrastive_loss(x, x, temperature=0.1, form=form, products="bfloat16")


def test_embeddings_in_bfloat16_receive_gradients_in_bfloat16():
    q, d = (torch.randn(6, 8).bfloat16().requires_grad_() for _ in range(2))
    loss = tiled_contrastive_loss(q, d, temperature=0.05)
    loss.backward()
    assert loss.dtype == torch.float32
    assert q.grad is not None
    assert q.grad.dtype == torch.bfloat16


def test_zero_vectors_give_finite_gradients():
    q, d = torch.zeros(3, 4, requires_grad=True), torch.randn(3, 4)
    tiled_contrastive_loss(q, d, temperature=0.01).backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_nothing_as_large_as_the_similarity_matrix_is_ever_made():
    size, largest = 900, 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                if isinstance(x, Tensor):
                    largest = max(largest, x.untyped_storage().nbytes())
            return out

    q, d, n = (torch.randn(size, 8, requires_grad=True) for _ in range(3))
    owners, labels = torch.arange(size), torch.arange(size) // 2
    with Watch():
        loss = tiled_contrastive_loss(
            q,
            d,
            temperature=0.01,
            form=qwen3_form(),
            negatives=n,
            negative_owners=owners,
            query_labels=labels.roll(1),
            document_labels=labels,
            negative_labels=labels + 400,
            tile_size=100,
        )
        torch.autograd.grad(loss, (q, d, n))
    assert largest <= 3 * size * 8 * 4
    assert largest < size * size / 8  # bytes: not even a mask of all pairs


def test_products_agree_with_plain_matrix_products():
    x = torch.randn(7, 5)
    offsets = torch.randn(7)
    products = ExactProducts(x, offsets)
    logits = products.logits(slice(0, 3), slice(2, 7), reference=1.5)
    expected = x[:3] @ x[2:].T + offsets[:3, None] + offsets[2:] - 1.5
    torch.testing.assert_close(logits, expected)
    rows, columns = products.weighted(logits, slice(0, 3), slice(2, 7))
    torch.testing.assert_close(rows, logits @ x[2:])
    torch.testing.assert_close(columns, logits.T @ x[:3])


def test_tile_size_must_be_positive():
    x = torch.randn(2, 3)
    with pytest.raises(ConfigError, match="tile_size must be >= 1, got 0"):
        tiled_contrastive_loss(x, x, temperature=0.01, tile_size=0)
