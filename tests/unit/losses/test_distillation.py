"""Distillation losses equal their definitions, whatever the groups look like."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError, DataError
from opengte.losses.config import (
    EmbeddingMSEConfig,
    KLDistillationConfig,
    MarginMSEConfig,
    make_loss,
)
from opengte.losses.distillation import (
    embedding_mse_loss,
    kl_distillation_loss,
    margin_mse_loss,
)
from opengte.losses.groups import grouped_logsumexp
from opengte.losses.inputs import EmbeddedBatch


@st.composite
def taught_batches(draw: st.DrawFn) -> EmbeddedBatch:
    size, num_negatives = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    owners = st.lists(st.integers(0, size - 1), min_size=num_negatives, max_size=num_negatives)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return EmbeddedBatch(
        values(size, 4),
        values(size, 4),
        values(num_negatives, 4),
        torch.tensor(draw(owners)),
        teacher_scores=values(size),
        negative_teacher_scores=values(num_negatives),
        teacher_queries=values(size, 4),
        teacher_documents=values(size, 4) if draw(st.booleans()) else None,
    )


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm()


@settings(max_examples=60, deadline=None)
@given(taught_batches(), st.sampled_from([0.05, 1.0]), st.sampled_from([0.5, 1.0]))
def test_kl_equals_the_definition(batch, temperature, teacher_temperature):
    total = 0.0
    for i in range(len(batch)):
        own = [k for k, owner in enumerate(batch.negative_owners.tolist()) if owner == i]
        documents = [batch.documents[i], *(batch.negatives[k] for k in own)]
        student = [float(unit(batch.queries[i]) @ unit(d)) / temperature for d in documents]
        teacher = [batch.teacher_scores[i], *(batch.negative_teacher_scores[k] for k in own)]
        p = softmax([float(t) / teacher_temperature for t in teacher])
        r = softmax(student)
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, r, strict=True))
    found = kl_distillation_loss(
        batch, temperature=temperature, teacher_temperature=teacher_temperature
    )
    assert math.isclose(found.item(), total / len(batch), rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(taught_batches(), st.sampled_from(["dot", "cosine"]))
def test_margin_mse_equals_the_definition(batch, similarity):
    total = 0.0
    for k, owner in enumerate(batch.negative_owners.tolist()):
        q, d, n = batch.queries[owner], batch.documents[owner], batch.negatives[k]
        if similarity == "cosine":
            q, d, n = unit(q), unit(d), unit(n)
        teacher = float(batch.teacher_scores[owner] - batch.negative_teacher_scores[k])
        total += (2.0 * float(q @ d - q @ n) - teacher) ** 2
    found = margin_mse_loss(batch, similarity=similarity, scale=2.0)
    assert math.isclose(found.item(), total / len(batch.negatives), rel_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(taught_batches(), st.booleans())
def test_embedding_mse_equals_the_definition(batch, normalise):
    total, count = 0.0, 0
    sides = [(batch.queries, batch.teacher_queries), (batch.documents, batch.teacher_documents)]
    for own, teacher in sides:
        if teacher is None:
            continue
        for x, t in zip(own, teacher, strict=True):
            x, t = (unit(x), unit(t)) if normalise else (x, t)
            total += float(((x - t) ** 2).sum())
            count += 1
    found = embedding_mse_loss(batch, normalise=normalise)
    assert math.isclose(found.item(), total / count, rel_tol=1e-9)


@settings(max_examples=30, deadline=None)
@given(taught_batches(), st.integers(0, 5))
def test_ranks_add_up(batch, cut):
    cut = min(cut, len(batch))
    for loss in (
        make_loss(KLDistillationConfig(temperature=0.05)),
        make_loss(MarginMSEConfig()),
        make_loss(EmbeddingMSEConfig()),
    ):
        parts = [loss(replace(batch, rows=rows)) for rows in (range(cut), range(cut, len(batch)))]
        torch.testing.assert_close(sum(parts), loss(batch), rtol=1e-10, atol=1e-12)


def test_student_that_agrees_has_nothing_to_learn():
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(3, 4, generator=generator).double(), dim=1)
    batch = EmbeddedBatch(
        x,
        x,
        x.roll(1, 0),
        torch.arange(3),
        teacher_scores=torch.ones(3).double(),
        negative_teacher_scores=(x * x.roll(1, 0)).sum(1),
        teacher_documents=x,
    )
    assert margin_mse_loss(batch).item() < 1e-12
    assert embedding_mse_loss(batch).item() < 1e-12
    assert kl_distillation_loss(batch, temperature=1.0).item() < 1e-12


def test_candidate_that_the_teacher_rules_out_leaves_the_loss_finite():
    batch = EmbeddedBatch(
        torch.randn(1, 3, requires_grad=True),
        torch.randn(1, 3),
        torch.randn(1, 3),
        torch.tensor([0]),
        teacher_scores=torch.tensor([0.0]),
        negative_teacher_scores=torch.tensor([-math.inf]),
    )
    loss = kl_distillation_loss(batch, temperature=0.05)
    loss.backward()
    assert loss.isfinite()
    assert batch.queries.grad.isfinite().all()


def test_grouped_logsumexp_gradcheck():
    values = torch.randn(5, dtype=torch.float64, requires_grad=True)
    groups = torch.tensor([0, 2, 2, 0, 2])
    excluded = torch.tensor([False, False, True, False, False])

    def filled(x: torch.Tensor) -> torch.Tensor:
        return grouped_logsumexp(x, groups, 4, excluded=excluded)[[0, 2]]

    assert torch.autograd.gradcheck(filled, (values,))


def test_missing_teacher_is_refused():
    x = torch.randn(2, 3)
    batch = EmbeddedBatch(x, x)
    with pytest.raises(DataError, match="kl_distillation needs teacher_scores"):
        kl_distillation_loss(batch, temperature=0.05)
    with pytest.raises(DataError, match="margin_mse needs negative_owners"):
        margin_mse_loss(batch)
    with pytest.raises(DataError, match="embedding_mse needs teacher_queries or"):
        embedding_mse_loss(batch)
    small = replace(batch, teacher_queries=torch.randn(2, 2))
    with pytest.raises(DataError, match="must have 3 values like the student's, got 2"):
        embedding_mse_loss(small)
    with pytest.raises(DataError, match=r"teacher_queries must be \(2, E\), got \(1, 3\)"):
        EmbeddedBatch(x, x, teacher_queries=x[:1])
    with pytest.raises(ConfigError, match=r"scale must be > 0, got 0\.0"):
        MarginMSEConfig(scale=0.0)
    with pytest.raises(ConfigError, match="temperature must be > 0"):
        KLDistillationConfig(teacher_temperature=0.0)
