"""Filters that need a teacher keep what they should, and count the rest with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from opengte.contracts import Progress
from opengte.errors import ConfigError, DataError
from opengte.mining.filters import keep_consistent, keep_scored, keep_taught
from opengte.mining.judging import judge_positives, random_pool
from opengte.mining.relabel import RelabelRules, relabel_false_negatives
from opengte.mining.teachers import Ranking, RerankingTeacher, best_first
from opengte.records import Document, Pair


@dataclass
class TableTeacher:
    """Scores (query, text) from a table; 0 for what it does not hold."""

    table: Mapping[tuple[str, str], float]
    texts: Sequence[str] = ()
    num_ranked: int = 0
    num_opened: int = 0

    @property
    def fingerprint(self) -> str:
        return "table"

    def open(
        self,
        texts: Sequence[str],
        *,
        folder: Path,
        num_ranked: int | None = None,
        progress: Progress | None = None,
    ) -> TableTeacher:
        self.num_opened += 1
        number = len(texts) if num_ranked is None else num_ranked
        return TableTeacher(self.table, texts, number)

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        rows = np.arange(self.num_ranked, dtype=np.int64)
        return [best_first(rows, self.score([query], [rows])[0], k) for query in queries]

    def score(
        self, queries: Sequence[str], rows: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        return [
            np.array(
                [self.table.get((query, self.texts[row]), 0.0) for row in own.tolist()],
                dtype=np.float32,
            )
            for query, own in zip(queries, rows, strict=True)
        ]


POOL = [Document(id=str(i), text=f"random {i}") for i in range(6)]
PAIRS = [
    Pair(query="first", positive="best answer"),
    Pair(query="second", positive="fair answer"),
    Pair(query="third", positive="poor answer"),
    Pair(query="twice", positive="one of two"),
    Pair(query="twice", positive="two of two"),
]
TABLE = {
    ("first", "best answer"): 0.9,
    ("first", "random 0"): 0.5,
    ("second", "fair answer"): 0.6,
    ("second", "random 1"): 0.8,
    ("third", "poor answer"): 0.2,
    ("third", "random 1"): 0.8,
    ("third", "random 2"): 0.7,
    ("third", "random 3"): 0.2,
    ("twice", "one of two"): 0.9,
    ("twice", "two of two"): 0.8,
    ("twice", "random 4"): 0.85,
}


def test_rank_counts_only_what_is_better_and_no_other_answer(tmp_path: Path) -> None:
    pool = [*POOL, Document(id="x", text="one of two")]
    judged = judge_positives(PAIRS, pool, TableTeacher(TABLE), folder=tmp_path, depth=4)
    assert judged.ranks.tolist() == [1, 2, 3, 1, 2]
    np.testing.assert_allclose(judged.scores, [0.9, 0.6, 0.2, 0.9, 0.8])


def test_rank_beyond_the_depth_is_told_as_beyond(tmp_path: Path) -> None:
    judged = judge_positives(PAIRS, POOL, TableTeacher(TABLE), folder=tmp_path, depth=2)
    assert judged.ranks.tolist() == [1, 2, 0, 1, 2]


def test_consistency_filter_keeps_the_top_2_and_counts_the_rest(tmp_path: Path) -> None:
    judged = judge_positives(PAIRS, POOL, TableTeacher(TABLE), folder=tmp_path)
    result = keep_consistent(PAIRS, judged, top_k=2)
    assert result.pairs == [PAIRS[0], PAIRS[1], PAIRS[3], PAIRS[4]]
    assert result.report.num_kept == 4
    fate = result.report.dropped["not_in_top_k"]
    assert (fate.count, fate.share) == (1, 0.2)
    assert (fate.examples[0].query, fate.examples[0].rank) == ("third", 3)
    assert fate.score_quantiles["0.50"] == pytest.approx(0.2)


def test_score_threshold_keeps_its_border(tmp_path: Path) -> None:
    judged = judge_positives(PAIRS, POOL, TableTeacher(TABLE), folder=tmp_path)
    result = keep_scored(PAIRS, judged, min_score=0.6)
    assert [pair.query for pair in result.pairs] == ["first", "second", "twice", "twice"]
    assert result.report.dropped["score_too_low"].count == 1
    assert result.report.as_json()["kept"]["score_reached"]["count"] == 4


def test_teacher_filter_keeps_the_answer_or_a_high_rank(tmp_path: Path) -> None:
    judged = judge_positives(PAIRS, POOL, TableTeacher(TABLE), folder=tmp_path)
    answers = {"third": "Poor", "second": "unfair"}
    result = keep_taught(PAIRS, judged, answer_of=lambda pair: answers.get(pair.query), top_k=1)
    assert [pair.query for pair in result.pairs] == ["first", "third", "twice"]
    assert result.report.kept["contains_the_answer"].count == 1
    assert result.report.kept["ranked_high"].count == 2
    assert result.report.dropped["no_answer_and_ranked_low"].count == 2


def test_another_threshold_judges_nothing_anew(tmp_path: Path) -> None:
    judged = judge_positives(PAIRS, POOL, TableTeacher(TABLE), folder=tmp_path, block_pairs=2)
    blind = TableTeacher({})
    again = judge_positives(PAIRS, POOL, blind, folder=tmp_path, block_pairs=2)
    np.testing.assert_array_equal(again.scores, judged.scores)
    assert blind.num_opened == 0
    for block_pairs in (1, 3, 100):
        other = judge_positives(
            PAIRS, POOL, TableTeacher(TABLE), folder=tmp_path, block_pairs=block_pairs
        )
        np.testing.assert_array_equal(other.ranks, judged.ranks)


def test_random_pool_is_drawn_once_each_and_repeats(tmp_path: Path) -> None:
    pairs = [Pair(query=str(i), positive=f"text {i % 30}") for i in range(100)]
    pool = random_pool(pairs, 10, seed=1)
    assert len({document.text for document in pool}) == 10
    assert pool == random_pool(pairs, 10, seed=1)
    assert pool != random_pool(pairs, 10, seed=2)
    assert len(random_pool(pairs, 1000)) == 30


def test_filter_settings_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    judged = judge_positives(PAIRS, POOL, TableTeacher(TABLE), folder=tmp_path, depth=3)
    with pytest.raises(ConfigError, match="between 1 and the judged depth 3, got 4"):
        keep_consistent(PAIRS, judged, top_k=4)
    with pytest.raises(ConfigError, match="between 1 and the judged depth 3, got 0"):
        keep_taught(PAIRS, judged, answer_of=lambda _: None, top_k=0)
    with pytest.raises(ConfigError, match="the judgement is of 5 pairs, but 4 were given"):
        keep_consistent(PAIRS[:4], judged)
    with pytest.raises(DataError, match="there are no pairs to judge"):
        judge_positives([], POOL, TableTeacher({}), folder=tmp_path)
    with pytest.raises(ConfigError, match="depth must be >= 1, got 0"):
        judge_positives(PAIRS, POOL, TableTeacher({}), folder=tmp_path, depth=0)
    with pytest.raises(ConfigError, match="num_documents must be >= 1, got 0"):
        random_pool(PAIRS, 0)


NEGATIVES = Pair(
    query="q",
    positive="the answer",
    negatives=("also an answer", "no answer", "hardly"),
    negative_scores=(0.7, 0.6, 0.5),
    group="g",
)
JUDGED = {
    ("q", "the answer"): 0.8,
    ("q", "also an answer"): 0.9,
    ("q", "no answer"): 0.3,
    ("q", "hardly"): 0.1,
}
PLAIN = Pair(query="plain", positive="the answer")


def test_false_negatives_are_removed_with_their_scores(tmp_path: Path) -> None:
    result = relabel_false_negatives([NEGATIVES, PLAIN], TableTeacher(JUDGED), folder=tmp_path)
    assert result.pairs == [
        replace(NEGATIVES, negatives=("no answer", "hardly"), negative_scores=(0.6, 0.5)),
        PLAIN,
    ]
    report = result.report
    assert (report.num_negatives, report.num_false_negatives, report.num_removed) == (3, 1, 1)
    assert report.examples[0].negative == "also an answer"
    assert report.false_negative_score_quantiles["0.50"] == pytest.approx(0.9)
    assert report.as_json()["num_pairs_touched"] == 1


def test_false_negatives_are_promoted_to_positives(tmp_path: Path) -> None:
    result = relabel_false_negatives(
        [NEGATIVES], TableTeacher(JUDGED), RelabelRules(action="promote"), folder=tmp_path
    )
    assert [pair.positive for pair in result.pairs] == ["the answer", "also an answer"]
    assert all(pair.negatives == ("no answer", "hardly") for pair in result.pairs)
    assert result.pairs[1].group == "g"
    assert result.report.num_promoted == 1


def test_pairs_with_false_negatives_are_discarded(tmp_path: Path) -> None:
    result = relabel_false_negatives(
        [NEGATIVES, PLAIN], TableTeacher(JUDGED), RelabelRules(action="discard"), folder=tmp_path
    )
    assert result.pairs == [PLAIN]
    assert (result.report.num_discarded, result.report.num_pairs_out) == (1, 1)


def test_relabel_borders_can_be_shares_and_scores(tmp_path: Path) -> None:
    def removed(**settings: float | None) -> int:
        rules = RelabelRules(**settings)  # type: ignore[arg-type]
        judge = TableTeacher(JUDGED)
        result = relabel_false_negatives([NEGATIVES], judge, rules, folder=tmp_path)
        return result.report.num_removed

    assert removed(perc_pos=0.3) == 2
    assert removed(perc_pos=1.2) == 0
    assert removed(perc_pos=None, min_score=0.05) == 3
    assert removed(perc_pos=0.3, min_score=0.5) == 1


def test_a_reranker_alone_can_judge_but_not_rank(tmp_path: Path) -> None:
    class TableReranker:
        def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
            return np.array([JUDGED[query, text] for text in documents], dtype=np.float32)

    judge = RerankingTeacher(None, TableReranker(), name="table")
    assert relabel_false_negatives([NEGATIVES], judge, folder=tmp_path).report.num_removed == 1
    ranker = judge.open(["a"], folder=tmp_path)
    with pytest.raises(ConfigError, match="reranker 'table' cannot rank a corpus without a first"):
        ranker.rank(["q"], 1)


def test_reranker_that_forgets_documents_is_a_clear_error(tmp_path: Path) -> None:
    class Forgetful:
        def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
            return np.zeros(1, dtype=np.float32)

    judge = RerankingTeacher(None, Forgetful(), name="forgetful")
    with pytest.raises(DataError, match=r"scores of shape \(1,\) for 4 documents"):
        relabel_false_negatives([NEGATIVES], judge, folder=tmp_path)


def test_relabel_rules_that_do_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs perc_pos, min_score or both"):
        RelabelRules(perc_pos=None)
    with pytest.raises(ConfigError, match="perc_pos must be > 0, got 0"):
        RelabelRules(perc_pos=0)
    with pytest.raises(DataError, match="no pairs to relabel"):
        relabel_false_negatives([], TableTeacher({}), folder=tmp_path)
