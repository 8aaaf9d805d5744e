from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.contracts import TextEncoder
from opengte.errors import ConfigError, UserError
from opengte.runtime.hashed import HashEncoder, words

TEXTS = st.lists(st.text(max_size=40), min_size=1, max_size=8)


def test_is_a_text_encoder():
    assert isinstance(HashEncoder(), TextEncoder)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_rows_have_length_one_and_do_not_depend_on_neighbours(texts):
    encoder = HashEncoder(64)
    together = encoder.encode(texts)
    alone = np.vstack([HashEncoder(64).encode([text]) for text in texts])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_vectors_are_the_same_in_another_process():
    code = (
        "from opengte.runtime.hashed import HashEncoder; import sys;"
        "print(HashEncoder(32).encode(['parse the JSON file']).tobytes().hex());"
        "assert 'torch' not in sys.modules"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert other == HashEncoder(32).encode(["parse the JSON file"]).tobytes().hex()


def test_shared_spelling_is_nearer_than_none():
    query, near, far = HashEncoder().encode(
        ["read a JSON file", "def readJsonFile(path): ...", "plot a histogram of prices"]
    )
    assert query @ near > 0.4 > 0.2 > query @ far


def test_word_order_does_not_matter_but_words_do():
    a, b, c = HashEncoder().encode(["alpha beta", "beta alpha", "alpha gamma"])
    np.testing.assert_array_equal(a, b)
    assert a @ c < 0.9


def test_words_are_cut_at_humps_underscores_and_cjk_characters():
    assert list(words("HTTPServer.read_line2 向量x")) == [
        *("http", "server", "read", "line", "2", "向", "量", "x")
    ]


def test_kind_puts_the_prompt_in_front_and_prompt_replaces_it():
    encoder = HashEncoder(query_prompt="query: ", document_prompt="passage: ")
    plain = HashEncoder()
    np.testing.assert_array_equal(
        encoder.encode(["a b"], kind="query"), plain.encode(["query a b"])
    )
    np.testing.assert_array_equal(
        encoder.encode(["a b"], kind="document"), plain.encode(["passage a b"])
    )
    np.testing.assert_array_equal(
        encoder.encode(["a b"], kind="query", prompt="other "), plain.encode(["other a b"])
    )
    np.testing.assert_array_equal(encoder.encode(["a b"]), plain.encode(["a b"]))


def test_truncation_keeps_the_named_end_and_is_reported():
    encoder = HashEncoder(max_tokens=3)
    end = encoder.embed(["a b c d", "a b"], truncate="end")
    assert end.truncated.tolist() == [True, False]
    assert end.num_tokens.tolist() == [3, 2]
    np.testing.assert_array_equal(end.vectors[0], encoder.encode(["a b c"])[0])
    start = encoder.encode(["a b c d"], truncate="start")
    np.testing.assert_array_equal(start, encoder.encode(["b c d"]))


def test_truncation_never_eats_the_prompt():
    encoder = HashEncoder(max_tokens=3)
    cut = encoder.embed(["a b c d"], prompt="find ", truncate="start")
    np.testing.assert_array_equal(cut.vectors, encoder.encode(["find c d"]))
    assert cut.num_tokens.tolist() == [3]


def test_error_names_the_text_that_is_too_long():
    with pytest.raises(UserError, match="text 1 has 4 tokens, the model reads 3; shorten it"):
        HashEncoder(max_tokens=3).encode(["a", "a b c d"], truncate="none")


def test_declared_prefix_is_cut_and_renormalised():
    encoder = HashEncoder(64, matryoshka_dimensions=(16,))
    full, cut = (
        encoder.encode(["some words here"]),
        encoder.encode(["some words here"], dimensions=16),
    )
    np.testing.assert_allclose(
        cut, full[:, :16] / np.linalg.norm(full[:, :16], axis=1, keepdims=True), atol=1e-6
    )
    with pytest.raises(UserError, match=r"trained for \(16, 64\), got 32"):
        encoder.encode(["x"], dimensions=32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": 0}, "dimensions must be >= 1, got 0"),
        ({"max_tokens": 0}, "max_tokens must be >= 1, got 0"),
        ({"matryoshka_dimensions": (300,)}, r"must lie in 1..256, got \(300,\)"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        HashEncoder(**settings)


def test_spaces_differ_exactly_where_vectors_do():
    base = HashEncoder()
    assert base.space.fingerprint == HashEncoder().space.fingerprint
    for other in (HashEncoder(128), HashEncoder(seed=1), HashEncoder(query_prompt="q ")):
        assert base.space.fingerprint != other.space.fingerprint
    assert not np.array_equal(base.encode(["word"]), HashEncoder(seed=1).encode(["word"]))


def test_progress_tells_how_many_are_done():
    seen: list[tuple[int, int | None]] = []
    HashEncoder().encode(["a", "b"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_no_texts_give_no_rows():
    result = HashEncoder(16).embed([])
    assert result.vectors.shape == (0, 16)
    assert result.num_tokens.shape == result.truncated.shape == (0,)
