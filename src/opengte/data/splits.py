"""Items -> train, dev and test, by whole groups, with no near-duplicate across.

A group is what is held out as a whole (a package, a folder); a component joins near-duplicates
(``near_duplicates.near_duplicate_groups``). Axes: N items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opengte.data.near_duplicates import first_occurrence_labels
from opengte.data.shingles import normalise_texts
from opengte.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Split:
    """Positions of the items of each part, ascending; each item is in exactly one of the four.

    Attributes:
        train, dev, test: the parts.
        dropped: items left out because a near-duplicate of theirs stands in a part that is
            measured with: taken from train for dev and test, from dev for test.
    """

    train: NDArray[np.int64]
    dev: NDArray[np.int64]
    test: NDArray[np.int64]
    dropped: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MergedQueries:
    """Distinct queries, and the items that ask each of them.

    Attributes:
        first: position of the first item of each distinct query, ascending.
        members: positions of all its items, ascending, one array a distinct query.
    """

    first: NDArray[np.int64]
    members: tuple[NDArray[np.int64], ...]


def split_by_group(
    groups: Sequence[str],
    components: Sequence[NDArray[np.int64]],
    *,
    num_test: int | None = None,
    test_share: float = 0.1,
    num_dev: int | None = None,
    dev_share: float = 0.05,
    largest_group: float = 1.5,
    most_counted: float = math.inf,
    seed: int = 0,
) -> Split:
    """Hold out whole groups, then drop from the training side what is too like them.

    Groups are taken in an order drawn with ``seed``; one larger than ``largest_group`` of its
    part, or that would overshoot it by half, is passed over while others are left, so that a
    huge package stays on the training side.

    Args:
        groups: one a item, not empty.
        components: for each side of the items, (N,) labels of near-duplicates; a label of one
            side has nothing to do with an equal label of another.
        num_test: least number of test items; None = ``test_share``.
        test_share: part of N, in [0, 1).
        num_dev: least number of dev items (before dropping); None = ``dev_share``.
        dev_share: part of N, in [0, 1).
        largest_group: of a group that is held out, as a share of its part's wanted size.
        most_counted: items of one group that count towards its part's wanted size, as a share
            of it: where queries are drawn evenly over groups, the rest of a large one adds none.
        seed: of the order.

    Raises:
        DataError: there are too few groups to hold any out.
        ConfigError: the parts leave nothing to train on.
    """
    wanted = [
        _wanted("test", num_test, test_share, len(groups)),
        _wanted("dev", num_dev, dev_share, len(groups)),
    ]
    if sum(wanted) >= len(groups):
        raise ConfigError(
            f"test and dev want {sum(wanted)} of {len(groups)} items and leave none to train on; "
            "ask for fewer"
        )
    for labels in components:
        if len(labels) != len(groups):
            raise ConfigError(f"{len(labels)} component labels for {len(groups)} items")
    names, numbers = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    if len(names) < 1 + sum(number > 0 for number in wanted):
        raise DataError(
            f"cannot hold out whole groups: all {len(groups)} items fall into {len(names)} "
            f"group(s), {names[:3].tolist()}; use a finer group, such as the folder"
        )
    numbers = numbers.reshape(-1)
    sizes = np.bincount(numbers)
    part = _parts_of_groups(sizes, wanted, largest_group, most_counted, seed)[numbers]
    return _drop_crossing(part, components)


def merge_identical_queries(queries: Sequence[str]) -> MergedQueries:
    """Join items whose queries are the same text after ``normalise_text``."""
    plain = [text or raw for text, raw in zip(normalise_texts(queries), queries, strict=True)]
    labels = first_occurrence_labels(np.asarray(plain, dtype=object)) if plain else np.zeros(0, int)
    order = np.argsort(labels, kind="stable")
    edges = np.flatnonzero(np.diff(labels[order])) + 1
    members = tuple(np.split(order.astype(np.int64), edges)) if len(order) else ()
    return MergedQueries(np.array([m[0] for m in members], np.int64), members)


def _wanted(name: str, number: int | None, share: float, total: int) -> int:
    if number is not None:
        if number < 0:
            raise ConfigError(f"num_{name} must be >= 0, got {number}")
        return number
    if not 0 <= share < 1:
        raise ConfigError(f"{name}_share must lie in [0, 1), got {share}")
    return round(share * total)


_TEST, _DEV, _TRAIN, _DROPPED = range(4)


def _parts_of_groups(
    sizes: NDArray[np.int64],
    wanted: Sequence[int],
    largest: float,
    most_counted: float,
    seed: int,
) -> NDArray[np.int64]:
    """A part for each group. The last group that is left always trains."""
    parts = np.full(len(sizes), _TRAIN)
    order = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    for part, number in enumerate(wanted):
        taken = 0.0
        keep_for_later = 1 + sum(later > 0 for later in wanted[part + 1 :])
        # First those that fit; if they do not suffice, the smallest of the others.
        fitting = [g for g in order if sizes[g] <= largest * number]
        others = sorted((g for g in order if sizes[g] > largest * number), key=lambda g: sizes[g])
        for group in fitting + others:
            left = number - taken
            if left <= 0 or len(order) <= keep_for_later:
                break
            counted = min(float(sizes[group]), max(1.0, most_counted * number))
            if counted > left + 0.5 * number and group in fitting:
                continue
            parts[group] = part
            taken += counted
            order.remove(group)
    return parts


def _drop_crossing(part: NDArray[np.int64], components: Sequence[NDArray[np.int64]]) -> Split:
    """Drop the items of a later part that share a component with an earlier one."""
    part = part.copy()
    for protected in (_TEST, _DEV):
        for labels in components:
            held = np.isin(labels, labels[part == protected])
            part[held & (part > protected) & (part < _DROPPED)] = _DROPPED
    train, dev, test, dropped = (np.flatnonzero(part == p) for p in (_TRAIN, _DEV, _TEST, _DROPPED))
    return Split(train=train, dev=dev, test=test, dropped=dropped)
