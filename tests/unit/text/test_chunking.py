from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.text.chunking import chunk_text
from opengte.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(minilm_folder):
    return Tokenizer.from_folder(minilm_folder)


def length(tokenizer, text):
    return len(tokenizer.encode([text], max_tokens=10**6)[0])


@settings(max_examples=40, deadline=None)
@given(
    text=st.text(alphabet="ab c.\n東!x", max_size=300),
    max_tokens=st.integers(6, 40),
    overlap=st.integers(0, 2),
)
def test_chunks_fit_lie_in_order_and_lose_nothing(tokenizer, text, max_tokens, overlap):
    chunks = chunk_text(text, tokenizer, max_tokens=max_tokens, overlap_tokens=overlap)
    covered = set()
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert length(tokenizer, chunk.text) <= max_tokens
        covered.update(range(chunk.start, chunk.end))
    assert [c.start for c in chunks] == sorted(c.start for c in chunks)
    lost = "".join(text[i] for i in range(len(text)) if i not in covered)
    assert not lost.strip()


def test_a_text_that_fits_is_one_chunk(tokenizer):
    (chunk,) = chunk_text("  A short text. ", tokenizer, max_tokens=16)
    assert (chunk.text, chunk.start) == ("A short text.", 2)
    assert chunk_text(" \n ", tokenizer, max_tokens=16) == []


def test_cuts_fall_on_the_strongest_pause(tokenizer):
    text = "one two three four. five six\n\nseven eight nine ten eleven twelve thirteen fourteen"
    first, second = chunk_text(text, tokenizer, max_tokens=12)
    assert first.text.endswith("five six")
    assert second.text.startswith("seven")


def test_neighbours_share_whole_words(tokenizer):
    text = " ".join(f"word{i}" for i in range(60))
    chunks = chunk_text(text, tokenizer, max_tokens=34, overlap_tokens=8)
    for left, right in itertools.pairwise(chunks):
        assert right.start < left.end
        shared = text[right.start : left.end].split()
        assert len(shared) >= 2
        assert set(shared) <= set(left.text.split()) & set(right.text.split())


def test_an_overlap_above_half_the_window_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="overlap_tokens must be between 0 and half of the 8"):
        chunk_text("a", tokenizer, max_tokens=10, overlap_tokens=5)
