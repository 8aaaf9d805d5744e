"""Conan's balance loss: retrieval rows and graded rows in one batch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.losses.balance import conan_balance_loss
from opengte.losses.config import ConanBalanceConfig
from opengte.losses.inputs import EmbeddedBatch


@st.composite
def mixed_batches(draw: st.DrawFn) -> EmbeddedBatch:
    size, num_negatives = draw(st.integers(1, 6)), draw(st.integers(0, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    grades = st.sampled_from([math.nan, 0.0, 0.5, 1.0])
    owners = st.lists(st.integers(0, size - 1), min_size=num_negatives, max_size=num_negatives)

    def values(n: int) -> torch.Tensor:
        return torch.randn(n, 4, generator=generator, dtype=torch.float64)

    return EmbeddedBatch(
        values(size),
        values(size),
        values(num_negatives) if num_negatives else None,
        torch.tensor(draw(owners)) if num_negatives else None,
        scores=torch.tensor(draw(st.lists(grades, min_size=size, max_size=size))),
    )


def cosine(x, y) -> float:
    return float(torch.dot(x, y) / x.norm() / y.norm())


def slow_loss(batch: EmbeddedBatch, hard_negatives: str) -> float:
    y = batch.scores.tolist()
    s = [cosine(q, d) for q, d in zip(batch.queries, batch.documents, strict=True)]
    retrieval = [i for i in range(len(batch)) if math.isnan(y[i])]
    owners = [] if batch.negatives is None else batch.negative_owners.tolist()
    total = 0.0
    for i in retrieval:
        z = math.exp(s[i] / 0.1)
        for k, owner in enumerate(owners):
            if owner in retrieval and (hard_negatives == "all" or owner == i):
                z += math.exp(cosine(batch.queries[i], batch.negatives[k]) / 0.1)
        total -= math.log(math.exp(s[i] / 0.1) / z) / len(retrieval)
    order = 1.0
    for i in range(len(batch)):
        for j in range(len(batch)):
            if y[i] > y[j]:
                order += math.exp((s[j] - s[i]) / 0.2)
    return total + 0.8 * math.log(order)


@settings(max_examples=80, deadline=None)
@given(mixed_batches(), st.sampled_from(["own", "all"]))
def test_equals_the_definition(batch, hard_negatives):
    found = conan_balance_loss(
        batch, temperature=0.1, cosent_temperature=0.2, hard_negatives=hard_negatives
    )
    expected = slow_loss(batch, hard_negatives)
    assert math.isclose(found.item(), expected, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=30, deadline=None)
@given(mixed_batches(), st.integers(0, 6))
def test_ranks_add_up(batch, cut):
    cut = min(cut, len(batch))
    parts = [
        conan_balance_loss(replace(batch, rows=rows), temperature=0.1)
        for rows in (range(cut), range(cut, len(batch)))
    ]
    whole = conan_balance_loss(batch, temperature=0.1)
    torch.testing.assert_close(sum(parts), whole, rtol=1e-10, atol=1e-12)


def test_weight_must_not_be_negative():
    with pytest.raises(ConfigError, match=r"beta must be >= 0, got -1\.0"):
        ConanBalanceConfig(beta=-1.0)
