"""Whatever index is chosen, the answers are the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from opengte.search import fastest
from opengte.search.exact import ExactIndex
from opengte.search.exact_torch import TorchExactIndex


@pytest.fixture(scope="module")
def shards():
    rows = np.random.default_rng(0).normal(size=(fastest.WORTH_TORCH, 8)).astype(np.float32)
    return [rows[:10_000], rows[10_000:]]


def test_many_rows_are_searched_by_torch_with_the_same_answers(shards):
    index = fastest.exact_index(shards)
    assert isinstance(index, TorchExactIndex)
    queries = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    for found, expected in zip(
        index.search(queries, 7), ExactIndex(shards).search(queries, 7), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    rows = np.array([9_999, 10_000, 3])
    np.testing.assert_array_equal(index.take(rows), np.concatenate(shards)[rows])


def test_few_rows_and_a_missing_torch_take_the_plain_index(shards, monkeypatch):
    assert isinstance(fastest.exact_index(shards[0]), ExactIndex)
    monkeypatch.setattr(fastest, "find_spec", lambda name: None)
    assert isinstance(fastest.exact_index(shards), ExactIndex)
