from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.text.token_budget import group_by_length


@given(
    lengths=st.lists(st.integers(1, 200), max_size=60),
    max_tokens=st.integers(1, 500),
    max_texts=st.none() | st.integers(1, 9),
)
def test_groups_are_a_partition_within_the_budget_longest_first(lengths, max_tokens, max_texts):
    groups = group_by_length(lengths, max_tokens=max_tokens, max_texts=max_texts)
    flat = [int(i) for group in groups for i in group]
    assert sorted(flat) == list(range(len(lengths)))
    in_order = [lengths[i] for i in flat]
    assert in_order == sorted(lengths, reverse=True)
    for group in groups:
        padded = len(group) * max(lengths[i] for i in group)
        assert padded <= max_tokens or len(group) == 1
        assert max_texts is None or len(group) <= max_texts


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), budget=st.integers(60, 300))
def test_no_group_could_take_one_more_text(lengths, budget):
    groups = group_by_length(lengths, max_tokens=budget)
    for group, _ in itertools.pairwise(groups):
        longest = max(lengths[i] for i in group)
        assert (len(group) + 1) * longest > budget


def test_ties_keep_their_order():
    (group,) = group_by_length([5, 5, 5, 5], max_tokens=100)
    assert group.tolist() == [0, 1, 2, 3]


def test_a_text_longer_than_the_budget_stands_alone():
    groups = group_by_length([3, 900, 4], max_tokens=10)
    assert [g.tolist() for g in groups] == [[1], [2, 0]]


def test_an_array_is_taken_and_no_text_gives_no_group():
    assert group_by_length(np.array([], dtype=np.int32), max_tokens=10) == []


@pytest.mark.parametrize("limits", [{"max_tokens": 0}, {"max_tokens": 5, "max_texts": 0}])
def test_limits_below_one_are_refused(limits):
    with pytest.raises(ConfigError, match=r"max_t\w+ must be >= 1, got 0"):
        group_by_length([1], **limits)
