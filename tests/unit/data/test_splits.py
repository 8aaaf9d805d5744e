"""Splits hold out whole groups, and nothing like a test item is trained on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.splits import merge_identical_queries, split_by_group
from opengte.errors import ConfigError, DataError


@st.composite
def items(draw: st.DrawFn) -> tuple[list[str], list[np.ndarray]]:
    number = draw(st.integers(30, 120))
    groups = draw(
        st.lists(st.sampled_from("abcdefghij"), min_size=number, max_size=number).filter(
            lambda found: len(set(found)) >= 3
        )
    )
    labels = st.lists(st.integers(0, 60), min_size=number, max_size=number)
    return groups, [np.array(draw(labels)), np.array(draw(labels))]


@settings(deadline=None)
@given(items(), st.integers(0, 5))
def test_split_properties(given_items: tuple[list[str], list[np.ndarray]], seed: int) -> None:
    groups, components = given_items
    split = split_by_group(groups, components, test_share=0.2, dev_share=0.1, seed=seed)
    parts = [split.train, split.dev, split.test, split.dropped]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    owner = np.array(groups)
    held = [set(owner[part].tolist()) for part in (split.train, split.dev, split.test)]
    assert sum(map(len, held)) == len(set.union(*held))
    assert len(split.test)
    for labels in components:
        present = [set(labels[part].tolist()) for part in parts[:3]]
        assert sum(map(len, present)) == len(set.union(*present))
    for item in split.dropped.tolist():
        measured = np.concatenate([split.dev, split.test])
        assert any(labels[item] in set(labels[measured].tolist()) for labels in components)


def test_same_seed_same_split_other_seed_other_split() -> None:
    groups = [f"package{i % 40}" for i in range(400)]
    labels = [np.arange(400)]
    one, two = (split_by_group(groups, labels, seed=seed) for seed in (1, 1))
    assert one.test.tolist() == two.test.tolist()
    assert one.test.tolist() != split_by_group(groups, labels, seed=2).test.tolist()


def test_asked_number_is_reached_and_a_huge_group_stays_in_training() -> None:
    groups = ["huge"] * 700 + [f"package{i % 30}" for i in range(300)]
    split = split_by_group(groups, [np.arange(1000)], num_test=100, num_dev=50)
    assert 100 <= len(split.test) <= 150
    assert 50 <= len(split.dev) <= 75
    assert set(range(700)) <= set(split.train.tolist())


def test_no_dev_is_possible() -> None:
    split = split_by_group(["a", "a", "b"], [np.arange(3)], num_test=1, num_dev=0)
    assert split.test.tolist() == [2]
    assert split.dev.tolist() == []


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"all 9 items fall into 1 group\(s\), \['one'\]"):
        split_by_group(["one"] * 9, [np.arange(9)], num_test=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_test": 9}, "test and dev want 9 of 9 items and leave none to train on"),
        ({"num_test": -1}, "num_test must be >= 0, got -1"),
        ({"test_share": 1.0}, r"test_share must lie in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_parts_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_by_group(list("abcabcabc"), [np.arange(9)], **options)  # type: ignore[arg-type]


def test_labels_must_be_one_an_item() -> None:
    with pytest.raises(ConfigError, match="2 component labels for 3 items"):
        split_by_group(["a", "b", "c"], [np.arange(2)], num_test=1, num_dev=0)


def test_identical_queries_are_merged_in_order() -> None:
    merged = merge_identical_queries(["Open a file.", "Close it", "open a FILE", "...", "!!!"])
    assert merged.first.tolist() == [0, 1, 3, 4]
    assert [m.tolist() for m in merged.members] == [[0, 2], [1], [3], [4]]
    assert merge_identical_queries([]).members == ()


@pytest.mark.parametrize("seed", range(8))
def test_a_large_group_counts_no_more_than_it_may(seed):
    """Groups of 12 rows; a part of 20 holds two of them, or ten where each counts for two."""
    groups = [f"g{n // 12}" for n in range(12 * 40)]

    def held_out(**options):
        split = split_by_group(groups, [], num_test=20, num_dev=0, seed=seed, **options)
        return len({groups[i] for i in split.test.tolist()})

    assert held_out() == 2
    assert held_out(most_counted=0.1) == 10
