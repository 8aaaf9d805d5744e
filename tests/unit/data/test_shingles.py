"""Shingles equal a slow definition, whatever the script."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.shingles import count_words, normalise_text, normalise_texts, shingle
from opengte.errors import ConfigError

TEXTS = st.lists(
    st.text(alphabet="ab 3.-_é中文あ。한\n\tß☃\U00020000\u0301", max_size=12), max_size=6
)


def slow_words(text: str) -> list[str]:
    words, open_word = [], False
    for character in unicodedata.normalize("NFKC", text).lower():
        ideograph = "\u3040" <= character <= "\u9fff" or character == "\U00020000"
        if ideograph and character.isalnum():
            words.append(character)
            open_word = False
        elif unicodedata.category(character)[0] in "LNM" and not ideograph:
            if open_word:
                words[-1] += character
            else:
                words.append(character)
            open_word = True
        else:
            open_word = False
    return words


def is_ideograph(word: str) -> bool:
    return "\u3040" <= word <= "\u9fff" or word == "\U00020000"


def slow_normal(text: str) -> str:
    normal, before = "", ""
    for word in slow_words(text):
        spaced = before and not is_ideograph(before) and not is_ideograph(word)
        normal += (" " if spaced else "") + word
        before = word
    return normal


def slow_shingles(items: list[str], size: int) -> list[tuple[str, ...]]:
    if len(items) < size:
        return [tuple(items)] if items else []
    return [tuple(items[i : i + size]) for i in range(len(items) - size + 1)]


@settings(deadline=None)
@given(TEXTS)
def test_normal_form_and_word_counts_equal_slow_loops(texts: list[str]) -> None:
    assert normalise_texts(texts) == [slow_normal(text) for text in texts]
    assert count_words(texts).tolist() == [len(slow_words(text)) for text in texts]


@settings(deadline=None)
@given(TEXTS, st.integers(1, 4), st.sampled_from(["words", "characters"]))
def test_equal_hashes_are_equal_runs(texts: list[str], size: int, unit: str) -> None:
    items = slow_words if unit == "words" else (lambda text: list(slow_normal(text)))
    expected = [run for text in texts for run in slow_shingles(items(text), size)]
    found = shingle(texts, unit=unit, size=size)  # type: ignore[arg-type]
    assert len(found.hashes) == len(expected)
    counts = [len(slow_shingles(items(text), size)) for text in texts]
    assert np.diff(found.offsets).tolist() == counts
    by_run: dict[tuple[str, ...], int] = {}
    for run, value in zip(expected, found.hashes.tolist(), strict=True):
        assert by_run.setdefault(run, value) == value
    assert len(set(by_run.values())) == len(by_run)


def test_hashes_do_not_depend_on_the_neighbouring_texts_or_blocks() -> None:
    texts = ["The cat sat.", "", "猫坐在 mat", "x" * 50, "the CAT sat"]
    together = shingle(texts, unit="words", size=2)
    for number, text in enumerate(texts):
        alone = shingle([text], unit="words", size=2)
        assert together.of(number).tolist() == alone.of(0).tolist()
    assert together.of(0).tolist() == together.of(4).tolist()


def test_normal_form_keeps_words_and_drops_the_rest() -> None:
    assert normalise_text("  Ｆoo-bar(baz)! ") == "foo bar baz"
    assert normalise_text("你好， world！再见") == "你好world再见"


def test_a_shingle_of_no_items_is_refused() -> None:
    with pytest.raises(ConfigError, match="size of a shingle must be >= 1, got 0"):
        shingle(["a"], size=0)
