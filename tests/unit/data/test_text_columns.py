"""Hashes and lengths of Arrow text columns against one text at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.text_columns import estimate_tokens, text_hashes

TEXTS = st.lists(st.text(max_size=30), max_size=20)


@settings(deadline=None)
@given(TEXTS)
def test_a_text_hashes_alike_alone_and_among_others(texts: list[str]) -> None:
    hashes = text_hashes(pa.array(texts, pa.string())).tolist()
    assert hashes == [int(text_hashes(pa.array([text], pa.string()))[0]) for text in texts]


@given(st.lists(st.text(alphabet="aAbB 中é\0", max_size=6), max_size=30))
def test_texts_hash_equally_exactly_when_they_differ_in_ascii_case_or_outer_space(
    texts: list[str],
) -> None:
    hashes = text_hashes(pa.array(texts, pa.string())).tolist()
    plain = [text.strip(" ").replace("A", "a").replace("B", "b") for text in texts]
    assert len(set(hashes)) == len(set(plain)) == len(set(zip(hashes, plain, strict=True)))


def test_hashes_do_not_depend_on_slices_or_on_the_size_of_blocks() -> None:
    texts = ["a", "b" * (1 << 21), "", "Ünïcode 中文", "c" * 700_000, "d" * 700_000, "a", " A "]
    column = pa.array(texts, pa.string())
    hashes = text_hashes(column)
    assert hashes[0] == hashes[6] == hashes[7]
    assert len(np.unique(hashes)) == 6
    assert text_hashes(column.slice(3, 4)).tolist() == hashes[3:7].tolist()
    assert text_hashes(column.cast(pa.large_string())).tolist() == hashes.tolist()


def test_the_hash_of_a_known_text_never_changes() -> None:
    # Stores keep these numbers: another value means another format version.
    values = text_hashes(pa.array(["", "hello", "你好"], pa.string())).tolist()
    assert values == [0, 6708611310970421198, 11354531258641457451]


def test_token_estimate_counts_words_marks_and_ideographs() -> None:
    texts = {
        "hello world": 2,
        "a+b": 3,
        "你好 world": 3,
        "你好world，再见": 6,
        "": 0,
        " \n": 0,
        "naïve café": 2,
        "snake_case(x)": 6,
        "привет мир": 2,
        "한국어 텍스트": 2,
    }
    estimate = estimate_tokens(pa.array(list(texts), pa.string()))
    assert estimate.tolist() == list(texts.values())
