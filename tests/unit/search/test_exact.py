from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.contracts import VectorIndex
from opengte.errors import ConfigError, SearchIndexError
from opengte.search import exact
from opengte.search.exact import ExactIndex


def slow_search(rows, queries, k):
    """The definition: all inner products, sorted by score, then by row."""
    scores = np.array(
        [[np.float32(np.dot(q.astype(float), r.astype(float))) for r in rows] for q in queries]
    ).reshape(len(queries), len(rows))
    order = [np.lexsort((np.arange(len(rows)), -line))[:k] for line in scores]
    best = [line[position] for line, position in zip(scores, order, strict=True)]
    return np.array(best, dtype=np.float32), np.array(order, dtype=np.int64)


def unit(rng, count, dimensions):
    vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.integers(1, 60),
    num_queries=st.integers(1, 9),
    k=st.integers(1, 70),
    levels=st.integers(1, 3),
    block=st.integers(1, 20),
    seed=st.integers(0, 9999),
)
def test_equals_definition_with_many_ties(num_rows, num_queries, k, levels, block, seed):
    """Entries of few whole values make many equal scores; blocks of odd sizes cut anywhere."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-levels, levels + 1, size=(num_rows, 3)).astype(np.float32)
    queries = rng.integers(-levels, levels + 1, size=(num_queries, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_ROWS", block)
        patch.setattr(exact, "_QUERIES", 4)
        scores, found = ExactIndex(rows).search(queries, k)
    expected_scores, expected_rows = slow_search(rows, queries, k)
    np.testing.assert_array_equal(found, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_equal_vectors_far_apart_tie_by_lower_row():
    """A block product may give equal vectors unequal scores; the second look must not."""
    rng = np.random.default_rng(0)
    rows = unit(rng, 9001, 37)
    queries = unit(rng, 33, 37)
    copies = np.array([11, 4097, 8192, 9000])
    rows[copies] = queries[0]
    scores, found = ExactIndex(rows).search(queries, 6)
    np.testing.assert_array_equal(found[0, :4], copies)
    assert len(set(scores[0, :4].tolist())) == 1


def test_scores_do_not_depend_on_the_other_queries_or_on_shards():
    rng = np.random.default_rng(1)
    rows, queries = unit(rng, 5000, 48), unit(rng, 300, 48)
    scores, found = ExactIndex(rows).search(queries, 20)
    alone_scores, alone = ExactIndex(rows).search(queries[7:8], 20)
    shards = [rows[:1], rows[1:1777], rows[1777:1777], rows[1777:]]
    shard_scores, shard_rows = ExactIndex(shards).search(queries, 20)
    np.testing.assert_array_equal(alone_scores[0], scores[7])
    np.testing.assert_array_equal(alone[0], found[7])
    np.testing.assert_array_equal(shard_scores, scores)
    np.testing.assert_array_equal(shard_rows, found)


def test_agrees_with_faiss():
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(2)
    rows, queries = unit(rng, 6000, 64), unit(rng, 100, 64)
    index = faiss.IndexFlatIP(64)
    index.add(rows)
    expected_scores, expected_rows = index.search(queries, 50)
    scores, found = ExactIndex(rows).search(queries, 50)
    np.testing.assert_allclose(scores, expected_scores, atol=2e-6)
    assert np.mean(found == expected_rows) > 0.999


def test_reads_half_precision_from_a_memory_map(tmp_path):
    rng = np.random.default_rng(3)
    rows = unit(rng, 500, 16).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    _, found = ExactIndex(mapped).search(rows[:9].astype(np.float32), 1)
    np.testing.assert_array_equal(found[:, 0], np.arange(9))


def test_is_a_vector_index_and_gives_fewer_hits_than_k_only_when_it_holds_fewer():
    index: VectorIndex = ExactIndex(np.eye(3, dtype=np.float32))
    scores, rows = index.search(np.ones((2, 3), dtype=np.float32), 10)
    assert scores.shape == rows.shape == (2, 3)


def test_empty_index_gives_no_hits():
    empty = ExactIndex(np.zeros((0, 4), dtype=np.float32))
    scores, rows = empty.search(np.ones((2, 4), dtype=np.float32), 5)
    assert scores.shape == rows.shape == (2, 0)


def test_take_gathers_rows_across_shards():
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    index = ExactIndex([rows[:3], rows[3:]])
    wanted = np.array([9, 0, 3, 2, 9])
    np.testing.assert_array_equal(index.take(wanted), rows[wanted])


def test_queries_of_another_width_are_refused():
    with pytest.raises(SearchIndexError, match=r"holds vectors of 3 dimensions; got .*\(2, 4\)"):
        ExactIndex(np.eye(3, dtype=np.float32)).search(np.ones((2, 4), dtype=np.float32), 1)


def test_shards_of_unequal_width_are_refused():
    with pytest.raises(SearchIndexError, match=r"matrices of one width; got shapes"):
        ExactIndex([np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)])


def test_values_that_are_not_finite_are_refused():
    rows = np.eye(3, dtype=np.float32)
    bad = rows.copy()
    bad[1, 1] = np.nan
    with pytest.raises(SearchIndexError, match="a query vector holds values that are not finite"):
        ExactIndex(rows).search(bad, 1)
    with pytest.raises(SearchIndexError, match="the index holds vectors that are not finite"):
        ExactIndex(bad).search(rows, 1)


def test_k_below_one_is_refused():
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        ExactIndex(np.eye(3, dtype=np.float32)).search(np.eye(3, dtype=np.float32), 0)
