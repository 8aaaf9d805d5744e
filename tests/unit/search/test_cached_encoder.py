"""Every text is embedded once by every model of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.runtime.hashed import HashEncoder
from opengte.search.cached_encoder import CachedEncoder


class Counting(HashEncoder):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def embed(self, texts, **options):  # type: ignore[no-untyped-def]
        self.asked.extend(texts)
        return super().embed(texts, **options)


def test_a_text_is_asked_for_once_even_by_another_cache_of_the_folder(tmp_path: Path) -> None:
    encoder = Counting()
    first = CachedEncoder(encoder, tmp_path).encode(["a b", "c", "a b"])
    again = CachedEncoder(encoder, tmp_path).encode(["c", "d", "a b"])
    assert encoder.asked == ["a b", "c", "d"]
    np.testing.assert_array_equal(first[0], again[2])


def test_sides_do_not_mix(tmp_path: Path) -> None:
    encoder = Counting()
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode(["a"], kind="query")
    cached.encode(["a"], kind="document")
    assert encoder.asked == ["a", "a"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.text(max_size=5), max_size=6), max_size=4))
def test_equals_the_encoder_behind_it(tmp_path_factory, calls: list[list[str]]) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("cache")
    encoder = HashEncoder()
    for texts in calls:
        cached = CachedEncoder(encoder, folder).embed(texts)
        plain = encoder.embed(texts)
        np.testing.assert_array_equal(cached.vectors, plain.vectors)
        np.testing.assert_array_equal(cached.num_tokens, plain.num_tokens)
        np.testing.assert_array_equal(cached.truncated, plain.truncated)


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    encoder = Counting()
    before = CachedEncoder(encoder, tmp_path).encode(["a", "b"])
    (shard,) = tmp_path.rglob("*.npz")
    shard.write_bytes(shard.read_bytes()[:40])
    after = CachedEncoder(encoder, tmp_path).encode(["a", "b"])
    np.testing.assert_array_equal(before, after)
    assert encoder.asked == ["a", "b", "a", "b"]


def test_a_text_that_two_processes_stored_moves_no_other(tmp_path: Path) -> None:
    """Each of two caches saw an empty folder; what the second wrote stands behind the first's."""
    one, two = tmp_path / "one", tmp_path / "two"
    CachedEncoder(Counting(), one).encode(["a b", "c d"])
    CachedEncoder(Counting(), two).encode(["a b", "e f"])
    (second,) = two.rglob("*.npz")
    (first,) = one.rglob("*.npz")
    second.rename(first.with_name("00001.npz"))
    encoder = Counting()
    texts = ["e f", "c d", "a b", "g h"]
    found = CachedEncoder(encoder, one).encode(texts)
    np.testing.assert_array_equal(found, HashEncoder().encode(texts))
    assert encoder.asked == ["g h"]


def test_what_is_stored_after_a_shard_was_damaged_replaces_no_other(tmp_path: Path) -> None:
    encoder = Counting()
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode(["a b"])
    cached.encode(["c d"])
    damaged = min(tmp_path.rglob("*.npz"))
    damaged.write_bytes(b"junk")
    cached.encode(["a b"])
    cached.encode(["c d", "a b"])
    assert encoder.asked == ["a b", "c d", "a b"]
