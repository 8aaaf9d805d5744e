"""Reranker losses on logits equal their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import DataError
from opengte.losses.reranking import listwise_loss, yes_no_loss, yes_no_scores


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 1000))
def test_listwise_equals_the_definition(num_lists, length, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(num_lists, length, generator=generator, dtype=torch.float64) * 5
    candidates = torch.rand(num_lists, length, generator=generator) < 0.8
    positives = torch.rand(num_lists, length, generator=generator) < 0.4
    candidates[:, 0] = positives[:, 0] = True
    total = 0.0
    for i in range(num_lists):
        places = [j for j in range(length) if candidates[i, j]]
        right = [j for j in places if positives[i, j]]
        wrong = sum(math.exp(scores[i, j]) for j in places if not positives[i, j])
        for j in right:
            own = math.exp(scores[i, j])
            total -= math.log(own / (own + wrong)) / len(right)
    found = listwise_loss(scores, positives, candidates)
    assert math.isclose(found.item(), total / num_lists, rel_tol=1e-9, abs_tol=1e-12)


def test_first_of_each_list_is_the_positive_by_default():
    scores = torch.randn(4, 6, dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(scores, torch.zeros(4).long())
    torch.testing.assert_close(listwise_loss(scores), expected)


def test_list_without_positive_is_named():
    positives = torch.tensor([[True, False], [False, False]])
    with pytest.raises(DataError, match="every list needs a positive candidate, list 1 has none"):
        listwise_loss(torch.zeros(2, 2), positives)


def test_yes_no_is_the_softmax_over_two_logits():
    yes, no = torch.tensor([2.0, -1.0, 300.0]), torch.tensor([0.5, 3.0, -300.0])
    labels = torch.tensor([True, False, True])
    expected = 0.0
    for y, n, label in zip(yes.tolist(), no.tolist(), labels.tolist(), strict=True):
        gap = (n - y) if label else (y - n)
        expected += math.log1p(math.exp(gap)) if gap < 100 else gap
    assert math.isclose(yes_no_loss(yes, no, labels).item(), expected / 3, rel_tol=1e-6)
    torch.testing.assert_close(
        yes_no_scores(yes, no), torch.softmax(torch.stack([yes, no]), dim=0)[0]
    )
    assert yes_no_loss(yes.bfloat16(), no.bfloat16(), labels).dtype == torch.float32
