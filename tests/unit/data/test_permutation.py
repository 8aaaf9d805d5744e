"""A keyed permutation is a bijection that looks drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opengte.data.permutation import KeyedPermutation, key_of
from opengte.errors import ConfigError


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_every_value_is_met_once(n: int, key: int) -> None:
    assert np.sort(KeyedPermutation(n, key)(np.arange(n))).tolist() == list(range(n))


@given(st.integers(1, 2**62), st.integers(0, 2**64 - 1), st.integers(0, 2**62))
def test_values_of_a_huge_range_stay_in_it_and_apart(n: int, key: int, begin: int) -> None:
    positions = np.unique((begin + np.arange(50)) % n)
    values = KeyedPermutation(n, key)(positions)
    assert len(np.unique(values)) == len(positions)
    assert values.min() >= 0
    assert values.max() < n


def test_neighbouring_positions_are_spread_evenly() -> None:
    n, bins = 1_000_003, 64
    values = KeyedPermutation(n, 1)(np.arange(16_384))
    counts = np.bincount(values * bins // n, minlength=bins)
    expected = 16_384 / bins
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 25 < chi_square < 125  # 63 degrees of freedom: 1e-5 tails on either side
    steps = np.abs(np.diff(values)).astype(float)
    assert abs(steps.mean() / (n / 3) - 1) < 0.03  # as for independent uniform values


@pytest.mark.parametrize("n", [2, 3, 7, 100])
def test_each_value_comes_first_about_equally_often(n: int) -> None:
    first = [
        int(KeyedPermutation(n, key_of("k", i))(np.zeros(1, np.int64))[0]) for i in range(4000)
    ]
    counts = np.bincount(first, minlength=n)
    chi_square = float(((counts - 4000 / n) ** 2 / (4000 / n)).sum())
    assert chi_square < (n - 1) + 5 * np.sqrt(2 * (n - 1)) + 5


def test_another_epoch_is_another_order_and_equal_keys_are_the_same() -> None:
    one, two = (KeyedPermutation(1000, key_of("rows", epoch))(np.arange(1000)) for epoch in (0, 1))
    assert (one == two).sum() < 10
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.15
    again = KeyedPermutation(1000, key_of("rows", 0))(np.arange(1000))
    assert (one == again).all()


def test_keys_tell_parts_and_types_apart() -> None:
    keys = [key_of("a", "b"), key_of("ab"), key_of("b", "a"), key_of(1), key_of("1"), key_of(1, "")]
    assert len(set(keys)) == len(keys)


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a shuffle needs between 1 and 2\*\*62 values, got 0"):
        KeyedPermutation(0, 1)
