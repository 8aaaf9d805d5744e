from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.contracts import VectorIndex
from opengte.errors import ConfigError, SearchIndexError
from opengte.search import exact_torch
from opengte.search.exact import ExactIndex
from opengte.search.exact_torch import TorchExactIndex, has_native_bfloat16


def unit(rng, count, dimensions):
    vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(exact_torch, "_SMALL", 0)
    monkeypatch.setattr(exact_torch, "_ROWS", 64)
    monkeypatch.setattr(exact_torch, "_QUERIES", 8)
    monkeypatch.setattr(exact_torch, "_CHUNK", 24)


def same(rows, queries, k, **options):
    expected_scores, expected_rows = ExactIndex(rows).search(queries, k)
    scores, found = TorchExactIndex(rows, **options).search(queries, k)
    np.testing.assert_array_equal(found, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.integers(1, 400),
    num_queries=st.integers(0, 30),
    k=st.integers(1, 90),
    levels=st.integers(1, 4),
    precision=st.sampled_from(["bfloat16", "float32"]),
    seed=st.integers(0, 9999),
)
def test_equals_the_plain_index_bit_for_bit_with_many_ties(
    num_rows, num_queries, k, levels, precision, seed
):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-levels, levels + 1, size=(num_rows, 3)).astype(np.float32)
    queries = rng.integers(-levels, levels + 1, size=(num_queries, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_SMALL", 0), ("_ROWS", 64), ("_QUERIES", 8), ("_CHUNK", 24)):
            patch.setattr(exact_torch, name, value)
        same(rows / 7, queries, k, precision=precision)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_rounding_never_loses_a_true_hit(small_blocks, precision, scale):
    """Scores differ by less than bfloat16 can tell: only the error bound keeps them."""
    rng = np.random.default_rng(0)
    centre = unit(rng, 1, 48)
    rows = centre + 0.004 * rng.normal(size=(3000, 48)).astype(np.float32)
    queries = (centre + 0.01 * rng.normal(size=(40, 48)).astype(np.float32)).astype(np.float32)
    same((rows * scale).astype(np.float32), queries, 10, precision=precision)


def test_very_many_equal_rows_keep_memory_bounded_and_ties_low(small_blocks, monkeypatch):
    rng = np.random.default_rng(1)
    rows = unit(rng, 9000, 16)
    rows[1000:8000] = rows[5]
    queries = np.concatenate([rows[5:6], unit(rng, 3, 16)])
    sizes = []
    real = exact_torch.Survivors.prune

    def watch(self, score):
        real(self, score)
        sizes.append(int(self._counts.max()))

    monkeypatch.setattr(exact_torch.Survivors, "prune", watch)
    same(rows, queries, 4)
    assert max(sizes) < 4 + 4096 + 64


def test_k_above_a_block_and_shards_of_odd_sizes(small_blocks):
    rng = np.random.default_rng(2)
    rows, queries = unit(rng, 1500, 24), unit(rng, 30, 24)
    shards = [rows[:1], rows[1:700], rows[700:700], rows[700:]]
    expected_scores, expected_rows = ExactIndex(rows).search(queries, 150)
    index = TorchExactIndex(shards, precision="bfloat16")
    scores, found = index.search(queries, 150)
    np.testing.assert_array_equal(found, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(index.take(np.array([1499, 0])), rows[[1499, 0]])
    assert len(index) == 1500
    assert index.dimensions == 24


def test_real_sizes_equal_the_plain_index():
    rng = np.random.default_rng(3)
    centres = unit(rng, 50, 64)
    rows = centres[rng.integers(0, 50, 20_000)] + 0.3 * unit(rng, 20_000, 64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[rng.integers(0, 20_000, 50)] + 0.1 * unit(rng, 50, 64)
    for precision in ("bfloat16", "float32"):
        same(rows.astype(np.float32), queries.astype(np.float32), 100, precision=precision)


def test_is_a_vector_index_with_the_same_refusals():
    index: VectorIndex = TorchExactIndex(np.eye(3, dtype=np.float32))
    assert index.search(np.eye(3, dtype=np.float32), 9)[1].shape == (3, 3)
    big = TorchExactIndex(np.zeros((20_000, 3), dtype=np.float32))
    with pytest.raises(SearchIndexError, match="holds vectors of 3 dimensions"):
        big.search(np.zeros((1, 4), dtype=np.float32), 1)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        big.search(np.zeros((1, 3), dtype=np.float32), 0)


def test_precision_follows_the_processor():
    index = TorchExactIndex(np.eye(3, dtype=np.float32))
    assert index.precision == ("bfloat16" if has_native_bfloat16() else "float32")
    assert TorchExactIndex(np.eye(3, dtype=np.float32), precision="float32").precision == "float32"
    assert not has_native_bfloat16("meta")


@pytest.mark.gpu
def test_graphics_card_gives_the_same_answer():
    rng = np.random.default_rng(4)
    same(unit(rng, 50_000, 128), unit(rng, 300, 128), 100, device="cuda")


def test_the_plain_index_needs_no_torch():
    code = "import sys, opengte.search.searcher; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threshold_is_rounded_down():
    values = torch.tensor([0.1, -0.1, 1.0, 0.30001, -torch.inf])
    rounded = exact_torch._rounded_down(values, torch.bfloat16).float()
    assert (rounded <= values).all()
    assert rounded[2] == 1.0
