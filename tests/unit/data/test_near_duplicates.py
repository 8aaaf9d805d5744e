"""Near-duplicate groups against all-pairs Jaccard, and what an overlap report counts."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.minhash import NearDuplicateConfig, jaccard
from opengte.data.near_duplicates import (
    connect,
    first_occurrence_labels,
    near_duplicate_groups,
    overlap,
)
from opengte.data.shingles import shingle
from opengte.errors import ConfigError

WORDS = [f"word{i}" for i in range(400)]


def random_texts(rng: np.random.Generator, number: int, length: int) -> list[list[str]]:
    return [rng.choice(WORDS, length).tolist() for _ in range(number)]


def with_copies(seed: int, number: int = 60, length: int = 40) -> list[str]:
    """Originals, and copies with some words replaced: similarities all over [0, 1]."""
    rng = np.random.default_rng(seed)
    texts = random_texts(rng, number, length)
    for original in list(texts):
        copy = list(original)
        for place in rng.choice(length, int(rng.integers(0, length // 3)), replace=False):
            copy[place] = str(rng.choice(WORDS))
        texts.append(copy)
    return [" ".join(text) for text in texts]


def slow_groups(texts: list[str], threshold: float, unit: str, size: int) -> list[int]:
    shingles = shingle(texts, unit=unit, size=size)  # type: ignore[arg-type]
    edges = [
        (i, j)
        for i in range(len(texts))
        for j in range(i)
        if jaccard(shingles.of(i), shingles.of(j)) >= threshold
    ]
    left, right = np.array(edges or [(0, 0)]).T
    return connect(len(texts), left, right).tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("unit", "size"), [("words", 3), ("characters", 5)])
def test_groups_equal_the_components_of_exact_jaccard(seed: int, unit: str, size: int) -> None:
    texts = with_copies(seed)
    groups = near_duplicate_groups(texts, unit=unit, shingle=size)  # type: ignore[arg-type]
    assert groups.tolist() == slow_groups(texts, 0.7, unit, size)


def test_a_chain_of_near_duplicates_is_one_group() -> None:
    words = WORDS[:60]
    chain = []
    for step in range(8):
        words[step * 2 : step * 2 + 2] = [f"new{step}a", f"new{step}b"]
        chain.append(" ".join(words))
    groups = near_duplicate_groups([*chain, "something else entirely, said once"])
    assert groups.tolist() == [0] * 8 + [1]
    shingles = shingle([chain[0], chain[-1]], unit="characters", size=5)
    assert jaccard(shingles.of(0), shingles.of(1)) < 0.7


def test_case_and_punctuation_do_not_matter_and_empty_texts_are_alone() -> None:
    texts = ["Reads the file.", "reads   the FILE", "", "...", "", "读取文件", "读取文件。"]
    assert near_duplicate_groups(texts).tolist() == [0, 0, 1, 2, 3, 4, 4]


def test_no_text_and_one_text() -> None:
    assert near_duplicate_groups([]).tolist() == []
    assert near_duplicate_groups(["a"]).tolist() == [0]


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(30)))
def test_groups_do_not_depend_on_the_order_of_texts(order: list[int]) -> None:
    texts = with_copies(5, number=15)
    straight = near_duplicate_groups(texts)
    shuffled = near_duplicate_groups([texts[i] for i in order])
    assert shuffled.tolist() == first_occurrence_labels(straight[np.array(order)]).tolist()


def test_many_copies_of_one_text_take_no_square_of_their_number() -> None:
    texts = ["the same boilerplate in every file of a large repository"] * 20_000
    begin = time.process_time()
    assert near_duplicate_groups(texts).max() == 0
    assert time.process_time() - begin < 5


@pytest.mark.slow
def test_forty_thousand_texts_of_sixty_words_take_less_than_twenty_seconds() -> None:
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(20_000)])
    texts = [" ".join(row) for row in vocabulary[rng.zipf(1.3, (40_000, 60)) % 20_000]]
    begin = time.process_time()
    near_duplicate_groups(texts)
    assert time.process_time() - begin < 20


def test_overlap_counts_exact_and_near_and_names_the_best_train_text() -> None:
    long = " ".join(WORDS[:50])
    train = ["Parse a JSON file.", long, long + " tail", "nothing alike here at all"]
    test = ["parse a json file", long.replace("word7 ", "changed "), "unseen words only", "", long]
    report = overlap(train, test)
    assert (report.num_train, report.num_test, report.exact, report.near) == (4, 5, 2, 3)
    found = {pair.test: pair for pair in report.found}
    assert (found[0].train, found[0].similarity) == (0, 1.0)
    assert (found[4].train, found[4].similarity) == (1, 1.0)
    assert found[1].train == 1
    assert 0.7 <= found[1].similarity < 1


@pytest.mark.parametrize("seed", range(3))
def test_overlap_equals_all_pairs(seed: int) -> None:
    texts = with_copies(seed)
    train, test = texts[::2], texts[1::2]
    shingles = shingle(texts, unit="characters", size=5)
    best = {
        j: max(jaccard(shingles.of(2 * i), shingles.of(2 * j + 1)) for i in range(len(train)))
        for j in range(len(test))
    }
    report = overlap(train, test)
    assert {pair.test for pair in report.found} == {j for j, s in best.items() if s >= 0.7}


def test_overlap_of_nothing_is_nothing() -> None:
    assert overlap([], ["a b c"]).near == 0
    assert overlap(["a b c"], []).near == 0


def test_bands_meet_nearly_every_pair_at_the_threshold() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.9):
        config = NearDuplicateConfig(threshold=threshold)
        bands = config.num_permutations // config.rows_per_band
        assert 1 - (1 - threshold**config.rows_per_band) ** bands >= 0.999


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("threshold", 0.0, r"threshold must lie in \(0, 1\], got 0.0"),
        ("num_permutations", 8, "num_permutations must be >= 16, got 8"),
        ("shingle", 0, "shingle must be >= 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NearDuplicateConfig(**{field: value})  # type: ignore[arg-type]
