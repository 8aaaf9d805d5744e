from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.records import Hit
from opengte.search.fusion import reciprocal_rank_fusion, scaled_score_fusion


def ranking(*ids, scores=None):
    scores = scores or [1.0 / rank for rank in range(1, len(ids) + 1)]
    pairs = zip(ids, scores, strict=True)
    return [Hit(name, score, rank) for rank, (name, score) in enumerate(pairs, 1)]


rankings = st.lists(
    st.lists(st.sampled_from("abcdef"), unique=True).map(lambda ids: ranking(*ids)), max_size=3
)


@given(rankings=rankings, k=st.floats(0.5, 100))
def test_reciprocal_rank_fusion_equals_definition(rankings, k):
    totals = {}
    for hits in rankings:
        for rank, hit in enumerate(hits, start=1):
            totals[hit.id] = totals.get(hit.id, 0) + 1 / (k + rank)
    fused = reciprocal_rank_fusion(rankings, k=k)
    assert {hit.id: hit.score for hit in fused} == pytest.approx(totals)
    assert [hit.score for hit in fused] == sorted((h.score for h in fused), reverse=True)
    assert [hit.rank for hit in fused] == list(range(1, len(fused) + 1))


def test_ranks_count_from_one_and_k_is_sixty():
    assert reciprocal_rank_fusion([ranking("a")])[0].score == pytest.approx(1 / 61)


def test_weights_and_limit():
    fused = reciprocal_rank_fusion([ranking("a", "b"), ranking("b", "a")], weights=(1, 2), limit=1)
    assert [hit.id for hit in fused] == ["b"]


def test_ties_go_to_the_document_seen_first():
    fused = reciprocal_rank_fusion([ranking("z", "y"), ranking("y", "z")])
    assert [hit.id for hit in fused] == ["z", "y"]


def test_scaled_sum_puts_each_list_on_zero_to_one():
    fused = scaled_score_fusion(
        [ranking("a", "b", "c", scores=[30.0, 20.0, 10.0]), ranking("c", "b", scores=[0.9, 0.1])]
    )
    assert {hit.id: hit.score for hit in fused} == pytest.approx({"a": 1.0, "b": 0.5, "c": 1.0})


def test_scaled_sum_of_equal_scores_gives_one():
    fused = scaled_score_fusion([ranking("a", "b", scores=[2.0, 2.0]), []])
    assert [hit.score for hit in fused] == [1.0, 1.0]


def test_k_that_divides_by_zero_is_refused():
    with pytest.raises(ConfigError, match="must be > 0, got 0"):
        reciprocal_rank_fusion([ranking("a")], k=0)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (1.0, float("nan"))])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ConfigError, match="one weight >= 0 a ranking"):
        reciprocal_rank_fusion([ranking("a"), ranking("b")], weights=weights)
