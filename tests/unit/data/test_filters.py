"""Filters drop what they say they drop, with a counted reason, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.filters import (
    AnswerFilter,
    CopyFilter,
    FilterReport,
    FiltersConfig,
    LanguageFilter,
    LengthFilter,
    PairFilter,
    RepetitionFilter,
    ScoreFilter,
    contains_answer,
    exact_duplicates,
    filter_pairs,
    near_duplicates,
)
from opengte.data.filters.duplicates import SeenKeys
from opengte.data.filters.repetition import repeated_shares
from opengte.data.shingles import shingle
from opengte.data.text_columns import text_hashes
from opengte.errors import ConfigError, MissingExtraError
from opengte.records import Pair

NAMES = ["alpha", "beta", "gamma", "猫", "狗"]
WORDS = st.lists(st.sampled_from(NAMES), max_size=12).map(" ".join)


def reason(judge: PairFilter, query: str, positive: str, **more: object) -> str:
    return judge.reasons([Pair(query, positive, **more)])[0]  # type: ignore[arg-type]


def test_length_counts_words_and_ideographs_and_names_the_bound() -> None:
    bounds = LengthFilter(
        min_query_words=2, max_query_words=4, min_positive_words=3, max_positive_words=6
    )
    assert reason(bounds, "one", "one two three") == "query too short"
    assert reason(bounds, "a b c d e", "one two three") == "query too long"
    assert reason(bounds, "a b", "one two") == "positive too short"
    assert reason(bounds, "a b", "a b c d e f g") == "positive too long"
    assert reason(bounds, "猫狗", "我爱你") == ""
    assert reason(LengthFilter(max_ratio=2), "a b", "a b c d e") == "lengths out of proportion"
    assert reason(LengthFilter(max_ratio=2), "a b", "a b c d") == ""
    assert reason(LengthFilter(), "...", "a") == "query too short"


def test_repetition_drops_loops_and_keeps_prose_code_and_short_texts() -> None:
    judge = RepetitionFilter()
    prose = " ".join(f"word{i}" for i in range(40))
    loop = "buy now and save big " * 10
    lines = "\n".join(["Home | About us", "Contact the shop"] * 5)
    code = "\n".join(f"def f{i}():\n    {{\n    }}\n" for i in range(9))
    assert reason(judge, "q", loop) == "repeats its words"
    assert reason(judge, loop, prose) == "repeats its words"
    assert reason(judge, "q", lines) == "repeats its words"
    assert reason(replace(judge, max_repeated_runs=1.0), "q", lines) == "repeats its lines"
    assert reason(judge, prose, code) == ""
    assert reason(judge, "no no no no", "no no no no no no no no no") == ""


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(1, 4))
def test_repeated_shares_equal_a_slow_count(texts: list[str], size: int) -> None:
    runs = shingle(texts, size=size)
    shares = repeated_shares(runs)
    for i in range(len(texts)):
        own = runs.hashes[runs.offsets[i] : runs.offsets[i + 1]].tolist()
        again = sum(own[k] in own[:k] for k in range(len(own)))
        assert shares[i] == pytest.approx(again / max(1, len(own)))


def test_language_drops_only_what_is_surely_another() -> None:
    pytest.importorskip("py3langid")
    english = "The cat sat on the mat and looked out of the window."
    german = "Die Katze saß auf der Matte und schaute aus dem Fenster."
    chinese = "猫坐在垫子上,看着窗外的鸟。"
    judge = LanguageFilter(query=("en",), positive=("en", "zh"))
    assert reason(judge, english, chinese) == ""
    assert reason(judge, german, english) == "query in another language"
    assert reason(judge, english, german) == "positive in another language"
    assert reason(judge, "Fenster", english) == ""  # one word has no language
    with pytest.raises(ConfigError, match="no language 'xx'; two-letter codes"):
        LanguageFilter(query=("xx",)).reasons([Pair("a", "b")])


def test_language_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from opengte.data.filters import language

    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    language._identifier.cache_clear()
    with pytest.raises(MissingExtraError, match=r'py3langid .*"opengte\[language\]"'):
        LanguageFilter(query=("en",)).reasons([Pair("a", "b")])
    language._identifier.cache_clear()


def test_scores_below_the_least_and_negatives_as_good_as_the_positive() -> None:
    judge = ScoreFilter(min_score=0.5, margin=0.1)
    assert reason(judge, "q", "p") == ""
    assert reason(judge, "q", "p", score=0.4) == "score too low"
    near = {"score": 0.9, "negatives": ("n",), "negative_scores": (0.85,)}
    assert reason(judge, "q", "p", **near) == "a negative scores as high as the positive"
    assert reason(judge, "q", "p", **{**near, "negative_scores": (0.7,)}) == ""


def test_answers_are_looked_for_as_whole_words() -> None:
    texts = ["He left Paris in May.", "The parish priest", "巴黎是法国的首都", "par is"]
    assert contains_answer(texts, ["Paris"]) == [True, False, False, False]
    assert contains_answer(texts, ["法国"]) == [False, False, True, False]
    assert contains_answer(texts, ["PARIS, in may"]) == [True, False, False, False]
    assert contains_answer(texts, ["..."]) == [False] * 4


def test_positive_without_the_answer_goes_and_negatives_with_it() -> None:
    judge = AnswerFilter(answers={"capital of France?": ["Paris"]})
    pairs = [
        Pair("capital of France?", "It is Paris.", ("Paris, Texas", "Rome"), 1.0, (0.4, 0.3)),
        Pair("capital of France?", "It is big."),
        Pair("capital of Italy?", "Rome", ("Rome is old", "Milan")),
    ]
    report = FilterReport()
    kept = list(filter_pairs(pairs, [judge], report=report))
    assert [(pair.positive, pair.negatives) for pair in kept] == [
        ("It is Paris.", ("Rome",)),
        ("Rome", ("Milan",)),
    ]
    assert kept[0].negative_scores == (0.3,)
    assert report.dropped == {"positive lacks the answer": 1}
    assert report.negatives_dropped == {"negative holds the answer": 2}


def test_copies_go_and_names_in_their_articles_stay() -> None:
    judge = CopyFilter()
    text = "How do I sort a list"
    assert reason(judge, text, text.upper() + "?") == "sides are the same text"
    assert reason(judge, text, f"{text} in Python") == "positive copies the query"
    assert reason(judge, text, f"{text}: " + "use the sorted function " * 5) == ""
    assert reason(judge, "Rome", "Rome is old") == ""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, st.none() | st.floats(0, 1)), max_size=30))
def test_every_pair_is_kept_or_counted_under_one_reason(
    rows: list[tuple[str, str, float | None]],
) -> None:
    pairs = [Pair(query, positive, score=score) for query, positive, score in rows]
    filters = FiltersConfig(
        length=LengthFilter(min_query_words=2, max_ratio=3),
        repetition=RepetitionFilter(min_words=4),
        score=ScoreFilter(min_score=0.3),
        copies=CopyFilter(),
    ).row_filters()
    report = FilterReport()
    kept = list(filter_pairs(pairs, filters, report=report))
    alone = [next((r for f in filters if (r := f.reasons([pair])[0])), "") for pair in pairs]
    assert kept == [pair for pair, why in zip(pairs, alone, strict=True) if not why]
    assert report.dropped == Counter(why for why in alone if why)
    assert (report.num_pairs, report.num_kept) == (len(pairs), len(kept))
    assert report.num_pairs == report.num_kept + report.dropped.total()
    assert set(report.examples) == set(report.dropped)


def test_reports_merge_counts_and_keep_the_first_examples() -> None:
    one, two = FilterReport(max_examples=2), FilterReport()
    one.drop("short", Pair("a", "b"))
    for number in range(3):
        two.drop("short", Pair(f"c{number}", "d"))
    two.num_pairs, two.num_kept = 5, 2
    one.merge(two)
    assert one.dropped == {"short": 4}
    assert one.examples == {"short": ["'a' = 'b'", "'c0' = 'd'"]}
    assert one.summary()["num_pairs"] == 5


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=20))
def test_exact_duplicates_are_the_rows_met_before(rows: list[tuple[str, str]]) -> None:
    columns = (pa.array([row[side] for row in rows], pa.string()) for side in (0, 1))
    queries, positives = map(text_hashes, columns)
    for same, key in (
        ("pair", lambda r: r),
        ("query", lambda r: r[0]),
        ("positive", lambda r: r[1]),
    ):
        seen = [key(row) for row in rows]
        met = [seen[i] in seen[:i] for i in range(len(rows))]
        assert exact_duplicates(queries, positives, same=same).tolist() == met  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=12))
def test_keys_are_new_once_however_they_are_cut_into_blocks(blocks: list[list[int]]) -> None:
    seen, known = SeenKeys(), set()
    for block in blocks:
        new = seen.add(np.array(block, np.uint64))
        for key, is_new in zip(block, new.tolist(), strict=True):
            assert is_new == (key not in known)
            known.add(key)


def test_near_duplicates_need_both_sides() -> None:
    passage = "The quick brown fox jumps over the lazy dog near the river bank every morning."
    rows = [
        ("What does the quick brown fox jump over in the morning?", passage),
        ("What does the quick brown fox jump over in the morning", passage + "!"),
        ("Where does the fox live when it snows in the mountains?", passage),
    ]
    again = near_duplicates([row[0] for row in rows], [row[1] for row in rows])
    assert again.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LengthFilter(min_query_words=5, max_query_words=4), "max_query_words 4 is less"),
        (lambda: LengthFilter(max_ratio=0.5), "max_ratio must be >= 1, got 0.5"),
        (lambda: RepetitionFilter(max_repeated_runs=2), r"max_repeated_runs must lie in \[0, 1\]"),
        (lambda: RepetitionFilter(run_words=0), "run_words must be >= 1, got 0"),
        (lambda: LanguageFilter(), "needs languages of queries or positives"),
        (lambda: LanguageFilter(query=("en",), min_probability=0), r"min_probability .*got 0"),
        (lambda: ScoreFilter(min_score=2), r"min_score must lie in \[0, 1\], got 2"),
        (lambda: AnswerFilter(max_answer_words=-1), "max_answer_words must be >= 0, got -1"),
    ],
)
def test_impossible_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]
