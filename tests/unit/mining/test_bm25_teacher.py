"""BM25 as a teacher: ranks what may be ranked, scores everything, is built once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opengte.mining import bm25_teacher
from opengte.mining.bm25_teacher import BM25Teacher
from opengte.mining.mine import mine_negatives
from opengte.mining.rules import MiningRules
from opengte.mining.teachers import EncoderTeacher, WeightedTeacher
from opengte.records import Pair
from opengte.runtime.hashed import HashEncoder
from opengte.search.bm25 import BM25Index

TEXTS = ["red apple pie", "green apple", "blue car", "apple apple tree", "car park", "red red car"]


def test_ranks_and_scores_as_the_index_does(tmp_path: Path) -> None:
    ranker = BM25Teacher().open(TEXTS, folder=tmp_path)
    hits = BM25Index.build(TEXTS).search(["red apple"], 10)[0]
    ranking = ranker.rank(["red apple"], 10)[0]
    assert [str(row) for row in ranking.rows] == [hit.id for hit in hits]
    scores = ranker.score(["red apple"], [np.arange(6)])[0]
    assert {str(row): score for row, score in enumerate(scores) if score} == pytest.approx(
        {hit.id: hit.score for hit in hits}
    )
    assert scores[2] == 0


def test_only_the_first_rows_are_ranked_but_all_are_scored(tmp_path: Path) -> None:
    ranker = BM25Teacher().open(TEXTS, folder=tmp_path, num_ranked=3)
    assert set(ranker.rank(["red apple car"], 2)[0].rows.tolist()) <= {0, 1, 2}
    assert len(ranker.rank(["red apple car"], 2)[0].rows) == 2
    assert ranker.score(["car"], [np.array([5])])[0][0] > 0


def test_a_query_without_known_words_ranks_nothing(tmp_path: Path) -> None:
    ranker = BM25Teacher().open(TEXTS, folder=tmp_path)
    assert len(ranker.rank(["zebra"], 3)[0].rows) == 0
    assert ranker.score(["zebra", ""], [np.array([1, 2]), np.array([], dtype=int)])[0].tolist() == [
        0,
        0,
    ]


def test_index_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BM25Teacher().open(TEXTS, folder=tmp_path)
    monkeypatch.setattr(bm25_teacher.BM25Index, "build", None)
    BM25Teacher().open(TEXTS, folder=tmp_path)
    with pytest.raises(TypeError):
        BM25Teacher(tokenizer="code").open(TEXTS, folder=tmp_path)


def test_pairs_without_a_shared_word_are_short_not_padded(tmp_path: Path) -> None:
    pairs = [Pair(query="apple", positive="red apple pie"), Pair(query="zebra", positive="car")]
    rules = MiningRules(num_negatives=2, perc_pos=None)
    result = mine_negatives(pairs, None, BM25Teacher(), rules, folder=tmp_path)
    assert [pair.negatives for pair in result.pairs] == [(), ()]
    assert result.report.num_empty == 2


def test_bm25_and_an_encoder_add_up(tmp_path: Path) -> None:
    encoder = HashEncoder(64)
    teacher = WeightedTeacher((EncoderTeacher(encoder), BM25Teacher()), (0.5, 0.5))
    ranker = teacher.open(TEXTS, folder=tmp_path)
    queries = ["red apple", "park"]
    rows = np.arange(len(TEXTS), dtype=np.int64)
    dense = encoder.encode(queries, kind="query") @ encoder.encode(TEXTS, kind="document").T
    sparse = np.stack(BM25Teacher().open(TEXTS, folder=tmp_path).score(queries, [rows, rows]))
    expected = dense / dense.max(1, keepdims=True) / 2 + sparse / sparse.max(1, keepdims=True) / 2
    np.testing.assert_allclose(ranker.score(queries, [rows, rows]), expected, atol=1e-5)
    best = ranker.rank(queries, 2)
    np.testing.assert_array_equal(best[0].rows, np.argsort(-expected[0], kind="stable")[:2])
