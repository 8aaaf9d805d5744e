from __future__ import annotations

import json
import math
from collections import Counter

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError, SearchIndexError
from opengte.search import bm25
from opengte.search.bm25 import BM25Index

TEXTS = [
    "the cat sat on the mat",
    "dogs and cats",
    "a dog sat",
    "",
    "the the the",
    "quantum field theory",
]

words = st.sampled_from(["cat", "dog", "the", "sat", "mat", "quark", "x1"])
texts_strategy = st.lists(st.lists(words, max_size=8).map(" ".join), min_size=1, max_size=12)


def lucene_score(query, text, corpus, k1=1.5, b=0.75):
    """Lucene's BM25 written out (Kamphuis et al. 2020, table 1), exact lengths."""
    bags = [Counter(other.split()) for other in corpus]
    mean_length = sum(sum(bag.values()) for bag in bags) / len(bags)
    bag = Counter(text.split())
    total = 0.0
    for word in query.split():
        frequency = sum(word in other for other in bags)
        if not bag[word]:
            continue
        idf = math.log(1 + (len(bags) - frequency + 0.5) / (frequency + 0.5))
        length = 1 - b + b * sum(bag.values()) / mean_length
        total += idf * bag[word] / (bag[word] + k1 * length)
    return total


@settings(max_examples=60, deadline=None)
@given(corpus=texts_strategy, query=st.lists(words, max_size=5).map(" ".join), k=st.integers(1, 15))
def test_equals_lucene_written_out_with_ties_by_position(corpus, query, k):
    hits = BM25Index.build(corpus).search([query], k)[0]
    scores = [lucene_score(query, text, corpus) for text in corpus]
    expected = sorted(
        (row for row, score in enumerate(scores) if score > 0),
        key=lambda row: (-np.float32(round(scores[row], 6)), row),
    )[:k]
    assert len(hits) == len(expected)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    for hit, row in zip(hits, expected, strict=True):
        assert hit.score == pytest.approx(scores[row], rel=1e-4, abs=1e-6)


def test_equals_bm25s_retrieval():
    rng = np.random.default_rng(0)
    vocabulary = [f"w{number}" for number in range(200)]
    corpus = [" ".join(rng.choice(vocabulary, size=rng.integers(3, 30))) for _ in range(300)]
    queries = [" ".join(rng.choice(vocabulary, size=4)) for _ in range(20)]
    peer = bm25s.BM25(method="lucene")
    peer.index([text.split() for text in corpus], show_progress=False)
    ours = BM25Index.build(corpus).search(queries, 10)
    for query, hits in zip(queries, ours, strict=True):
        expected = np.sort(peer.get_scores(query.split()))[::-1][:10]
        np.testing.assert_allclose([hit.score for hit in hits], expected[: len(hits)], rtol=1e-5)


def test_equal_texts_are_ordered_by_position():
    hits = BM25Index.build(["b c", "a b", "a b", "a b"]).search(["a"], 2)[0]
    assert [hit.id for hit in hits] == ["1", "2"]


def test_word_that_a_query_repeats_counts_as_often():
    index = BM25Index.build(TEXTS)
    once, twice = index.search(["mat", "mat mat"], 1)
    assert twice[0].score == pytest.approx(2 * once[0].score)


def test_texts_without_a_common_word_are_no_hits():
    assert BM25Index.build(TEXTS).search(["zebra", ""], 10) == [[], []]


@pytest.mark.parametrize("texts", [[], ["", "  ", "!?"]])
def test_corpus_without_words_finds_nothing(texts):
    assert BM25Index.build(texts).search(["cat"], 3) == [[]]


def test_ids_name_the_hits():
    index = BM25Index.build(iter(TEXTS), ids=[f"doc-{n}" for n in range(6)])
    assert index.search(["quantum"], 1)[0][0].id == "doc-5"
    assert len(index) == 6


def test_many_matches_are_worked_off_in_blocks(monkeypatch):
    whole = BM25Index.build(TEXTS).search(["the cat", "dog", "sat", "the"] * 5, 3)
    monkeypatch.setattr(bm25, "_MAX_PRODUCT", 3)
    assert BM25Index.build(TEXTS).search(["the cat", "dog", "sat", "the"] * 5, 3) == whole


def test_save_and_load_answer_alike_without_pickle(tmp_path):
    index = BM25Index.build(TEXTS, tokenizer="code", ids=list("abcdef"))
    index.save(tmp_path / "bm25")
    opened = BM25Index.load(tmp_path / "bm25")
    assert opened.search(["the cat", "dog sat"], 5) == index.search(["the cat", "dog sat"], 5)
    assert opened.tokenizer == "code"
    for file in (tmp_path / "bm25").glob("*.npy"):
        np.load(file, allow_pickle=False)
    assert {file.suffix for file in (tmp_path / "bm25").iterdir()} == {".npy", ".json"}


@pytest.mark.parametrize("name", ["weights.npy", "texts.npy", "starts.npy", "words.json"])
def test_damaged_file_is_refused_by_name(tmp_path, name):
    BM25Index.build(TEXTS).save(tmp_path)
    (tmp_path / name).write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(SearchIndexError, match=rf"{name}: this file of a BM25 index cannot be"):
        BM25Index.load(tmp_path)


def test_files_of_two_indexes_do_not_mix(tmp_path):
    BM25Index.build(TEXTS).save(tmp_path)
    (tmp_path / "words.json").write_text(json.dumps(["cat"]))
    with pytest.raises(SearchIndexError, match="do not belong together"):
        BM25Index.load(tmp_path)


@pytest.mark.parametrize(
    ("settings_", "text"),
    [({"k1": -1.0}, "k1 >= 0"), ({"b": 1.5}, "b in"), ({"ids": ["a"]}, "got 1 ids for 6 texts")],
)
def test_settings_out_of_range_are_refused(settings_, text):
    with pytest.raises(ConfigError, match=text):
        BM25Index.build(TEXTS, **settings_)
