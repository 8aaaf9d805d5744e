"""A schedule holds its shares in every stretch, and any stretch can be asked for alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.schedule import BLOCK, OrderedSchedule, SharedSchedule
from opengte.errors import ConfigError

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda p: sum(p) > 1e-3)


@settings(deadline=None, max_examples=50)
@given(SHARES, st.integers(0, 2**64 - 1), st.integers(0, 5000), st.integers(0, 3000))
def test_a_stretch_alone_equals_the_stretch_in_the_whole(
    shares: list[float], key: int, start: int, length: int
) -> None:
    entries, occurrences = SharedSchedule(shares, key).draws(0, start + length)
    for entry in range(len(shares)):
        of_entry = occurrences[entries == entry]
        assert of_entry.tolist() == list(range(len(of_entry)))
    part = SharedSchedule(shares, key).draws(start, start + length)
    assert part[0].tolist() == entries[start:].tolist()
    assert part[1].tolist() == occurrences[start:].tolist()


@settings(deadline=None, max_examples=50)
@given(SHARES, st.integers(0, 2**64 - 1), st.integers(1, 20_000))
def test_no_entry_strays_from_its_due(shares: list[float], key: int, number: int) -> None:
    schedule = SharedSchedule(shares, key)
    counts = np.bincount(schedule.draws(0, number)[0], minlength=len(shares))
    # Within a block each entry is spread evenly, so two draws and the others' rounding suffice.
    assert np.abs(counts - schedule.shares * number).max() < 2 + len(shares) / 2


def test_far_away_costs_and_means_the_same() -> None:
    schedule = SharedSchedule([0.7, 0.2999, 1e-4], 3)
    start = 10_000_000 * 16_384
    entries, occurrences = schedule.draws(start, start + 50 * BLOCK)
    assert len(entries) == 50 * BLOCK
    for entry in range(3):
        assert (np.diff(occurrences[entries == entry]) == 1).all()
    assert abs(occurrences[0] / start - schedule.shares[entries[0]]) < 1e-5


def test_a_tiny_share_is_neither_starved_nor_fed_too_much() -> None:
    counts = np.bincount(SharedSchedule([1.0, 1e-5], 5).draws(0, 1_000_000)[0])
    assert counts[1] in (9, 10, 11)


def test_key_decides_the_order_but_not_the_shares() -> None:
    one, two = (SharedSchedule([0.5, 0.5], key).draws(0, 4 * BLOCK)[0] for key in (1, 2))
    assert (one != two).any()
    assert abs(int(one.sum()) - int(two.sum())) <= 2


def test_ordered_visits_one_after_another_and_begins_again() -> None:
    schedule = OrderedSchedule([1, 1, 2], 8)
    entries, occurrences = schedule.draws(0, 16)
    assert entries.tolist() == [0, 0, 1, 1, 2, 2, 2, 2] * 2
    assert occurrences.tolist() == [0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("shares", [[], [0.0], [-1.0, 2.0], [float("nan")], [float("inf"), 1.0]])
def test_impossible_shares_are_refused(shares: list[float]) -> None:
    with pytest.raises(ConfigError, match="shares must be finite, >= 0 and not all 0"):
        SharedSchedule(shares, 0)


def test_too_few_steps_for_an_ordered_mixture_are_refused() -> None:
    with pytest.raises(ConfigError, match="of 3 groups needs num_steps >= 3, got 2"):
        OrderedSchedule([1, 1, 1], 2)
