"""Evaluation texts planted in training texts are found, by the rule that says so, and no others."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.filters import DecontaminationConfig, Decontaminator, FilterReport, filter_pairs
from opengte.data.filters.code_texts import looks_like_code
from opengte.data.filters.short_texts import ShortTexts
from opengte.data.shingles import normalise_text, normalise_texts
from opengte.errors import ConfigError
from opengte.records import Pair

SENTENCE = "Stocks fell sharply after the announcement."
QUESTION = "如何查询我的花呗账单"
FUNCTION = """\
def running_mean(values, window):
    total = 0.0
    for position, value in enumerate(values):
        total += value
        if position >= window:
            total -= values[position - window]
        yield total / min(position + 1, window)
"""
REFORMATTED = """\
def running_mean( values , window ):
        total=0.0
        for position,value in enumerate( values ):
                total+=value
                if position>=window: total-=values[ position-window ]
                yield total/min( position+1 , window )   # the mean so far
"""
RENAMED = """\
def running_mean(values, window):
    total = 0.0
    for position, item in enumerate(values):
        total += item
        if position >= window:
            total -= values[position - window]
        yield total / min(1 + position, window)
"""
LONG = (
    "The committee decided on Tuesday that the new bridge over the river will be opened to all "
    "traffic before the end of the year, two years later than planned."
)
CLEAN = [
    "Stocks of fish fell after the storm, the announcement of the ministry said.",
    "我的账单在哪里可以看到",
    "def running_total(values):\n    total = 0\n    for value in values:\n        total += value\n"
    "    return {'total': total, 'mean': total / len(values), 'values': values}\n",
    "The committee decided that the river will be cleaned before the bridge is opened.",
    "Stocks fell",
    "",
]


def rules(texts: list[str], evaluation: list[str]) -> list[str]:
    found = {each.text: each.rule for each in Decontaminator(evaluation).find(texts)}
    return [found.get(i, "") for i in range(len(texts))]


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        (SENTENCE, "exact"),
        ("stocks fell SHARPLY -- after the announcement", "exact"),
        (
            f"In the news today. {SENTENCE} More at eight, when the markets have closed.",
            "characters",
        ),
        ("Stocks fell sharply after an announcement.", "characters"),
        (f"客户问:{QUESTION}?客服回答说请打开应用首页查看", "characters"),
        ("如何查询我的花呗账单呢", "characters"),
        (f"{QUESTION}?", "exact"),
        (f"Reported by our staff: {LONG} The mayor was pleased.", "words"),
        (LONG.replace("Tuesday", "Monday"), "words"),
        (REFORMATTED, "words"),
        (RENAMED, "code"),
    ],
)
def test_a_planted_text_is_found_by_its_rule(planted: str, rule: str) -> None:
    evaluation = [SENTENCE, QUESTION, FUNCTION, LONG]
    assert rules([*CLEAN, planted], evaluation) == [""] * len(CLEAN) + [rule]


def test_the_evaluation_text_that_was_found_is_named() -> None:
    judge = Decontaminator([QUESTION, SENTENCE, FUNCTION, LONG])
    found = judge.find([REFORMATTED, LONG + " So it is.", SENTENCE, f"{QUESTION}呢"])
    assert [(each.text, each.evaluation) for each in found] == [(0, 2), (1, 3), (2, 1), (3, 0)]


@pytest.mark.parametrize("side", ["query", "positive"])
def test_either_side_of_a_pair_counts_and_negatives_are_taken_away(side: str) -> None:
    clean = Pair("What is a bridge?", "A way over a river.", negatives=(SENTENCE, "A boat."))
    dirty = Pair(SENTENCE, "x") if side == "query" else Pair("x", SENTENCE)
    report = FilterReport()
    kept = list(filter_pairs([clean, dirty], [Decontaminator([SENTENCE])], report=report))
    assert [(pair.query, pair.negatives) for pair in kept] == [(clean.query, ("A boat.",))]
    assert report.dropped == {"in an evaluation set (exact)": 1}
    assert report.negatives_dropped == {"negative in an evaluation set (exact)": 1}


VOCABULARY = [
    *("time", "person", "year", "way", "day", "thing", "man", "world", "life", "hand", "part"),
    *("child", "eye", "woman", "place", "work", "week", "case", "point", "government", "company"),
]
SENTENCES = st.lists(st.sampled_from(VOCABULARY), min_size=4, max_size=12, unique=True).map(
    " ".join
)


def grams(text: str) -> list[str]:
    plain = normalise_text(text)
    return [plain[i : i + 5] for i in range(len(plain) - 4)]


def contained(evaluation: str, training: str, share: float = 0.8) -> bool:
    """The definition: enough of its 5-grams within a stretch at most twice as long as it."""
    own, given_grams = set(grams(evaluation)), grams(training)
    need = math.ceil(share * len(own) - 1e-9)
    width = 2 * len(own)
    return any(
        len(own.intersection(given_grams[i : i + width])) >= need
        for i in range(max(1, len(given_grams) - width + 1))
    )


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """A text with some words changed, dropped or put in, inside another text."""
    words = text.split()
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(words) - 1))
        how = draw(st.sampled_from(["change", "drop", "insert"]))
        if how == "insert":
            words.insert(place, draw(st.sampled_from(["an", "problems", "x"])))
        elif how == "change":
            words[place] = draw(st.sampled_from(["an", "problems", "x"]))
        elif len(words) > 2:
            del words[place]
    around = [" ".join(draw(st.lists(st.sampled_from(VOCABULARY), max_size=8))) for _ in range(2)]
    return f"{around[0]} {' '.join(words)} {around[1]}"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_containment_of_edited_texts_equals_the_definition(data: st.DataObject) -> None:
    evaluation = data.draw(st.lists(SENTENCES, min_size=1, max_size=4, unique=True))
    training = [data.draw(edited(data.draw(st.sampled_from(evaluation)))) for _ in range(4)]
    found = ShortTexts(evaluation, containment=0.8, min_grams=2).find(training)
    assert all(contained(evaluation[which], training[place]) for place, which in found)
    due = [
        place
        for place, text in enumerate(training)
        if any(contained(each, text) for each in evaluation)
    ]
    assert sorted(place for place, _ in found) == due


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(10, 16), st.integers(0, 6))
def test_a_run_of_13_words_is_found_and_one_of_12_is_not(start: int, run: int, before: int) -> None:
    evaluation = [f"e{i}" for i in range(40)]
    training = [*(f"a{i}" for i in range(before)), *evaluation[start : start + run], "end"]
    judge = Decontaminator([" ".join(evaluation)])
    assert bool(judge.find([" ".join(training)])) == (run >= 13)


def test_short_common_texts_are_matched_exactly_alone() -> None:
    judge = Decontaminator(["What is it", "你好"])
    assert not judge.find(["I wonder what is it that you want", "你好啊朋友"])
    assert [each.rule for each in judge.find(["what is it?", "你好!"])] == ["exact", "exact"]
    longer = DecontaminationConfig(min_words=4)
    assert not Decontaminator(["What is it"], config=longer).find(["what is it?"])


def test_texts_without_words_are_in_no_set() -> None:
    judge = Decontaminator(["...", "", SENTENCE])
    assert not judge.find(["!?", "", "---"])
    assert not Decontaminator([]).find([SENTENCE, FUNCTION, LONG])


def test_pieces_scattered_over_a_long_document_are_no_containment() -> None:
    pieces = normalise_texts([SENTENCE])[0]
    scattered = " ".join(
        f"{pieces[i : i + 7]} {'other words stand between here ' * 4}" for i in range(0, 40, 3)
    )
    assert set(grams(SENTENCE)) & set(grams(scattered))
    assert rules([scattered], [SENTENCE]) == [""]


def test_code_is_told_from_prose() -> None:
    assert looks_like_code(FUNCTION)
    assert looks_like_code("SELECT name, id FROM users WHERE id = (SELECT max(id) FROM users);")
    assert not looks_like_code(LONG)
    assert not looks_like_code("He said (and I agree) that f(x) is a function of one variable.")
    assert not looks_like_code(QUESTION * 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"containment": 0}, r"containment must lie in \(0, 1\], got 0"),
        ({"containment": 1.5}, r"containment must lie in \(0, 1\], got 1.5"),
        ({"min_grams": 0}, "min_grams must be >= 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DecontaminationConfig(**options)  # type: ignore[arg-type]
