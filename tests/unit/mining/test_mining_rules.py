"""Every rule catches the case that was planted for it, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.mining.corpus import MiningCorpus, corpus_of_pairs, source_file
from opengte.mining.rules import MiningRules, View, active_rules, apply_rules, draw
from opengte.records import Document, Pair
from opengte.text.text_keys import contains_run, jaccard, shingles, text_key, words

PAIR = Pair(
    query="how do I read a file",
    positive="open the path and call read on the handle that comes back",
    group="io",
    origin="guide/files.md:3",
)
OPEN = MiningRules(
    num_negatives=2, perc_pos=None, near_duplicate=None, exclude_answers=False, last_rank=50
)
"""Everything that can be switched off is off."""


def view_of(documents: list[Document], scores: list[float], *, pair: Pair = PAIR) -> View:
    corpus = MiningCorpus(documents, [pair])
    return View(
        pair=pair,
        corpus=corpus,
        positive_score=0.8,
        known_positives=np.array([text_key(pair.positive)], dtype=np.int64),
        rows=np.arange(len(documents), dtype=np.int64),
        scores=np.array(scores, dtype=np.float32),
        ranks=np.zeros(len(documents), dtype=np.int64),
    )


def documents_of(*texts: str) -> list[Document]:
    return [Document(id=str(i), text=text) for i, text in enumerate(texts)]


def refused_rows(view: View, rules: MiningRules) -> dict[str, list[int]]:
    _, refused = apply_rules(view, rules)
    return {name: part.rows.tolist() for name, part in refused.items() if len(part.rows)}


def test_known_positive_is_refused_whatever_its_case_and_spacing() -> None:
    shouted = PAIR.positive.upper().replace(" ", "  ")
    view = view_of(documents_of("other", PAIR.positive, shouted), [0.9, 0.8, 0.8])
    assert refused_rows(view, OPEN) == {"known_positive": [1, 2]}


def test_known_positive_is_found_below_a_title() -> None:
    titled = Document(id="t", text=PAIR.positive, title="Files")
    assert refused_rows(view_of([titled], [0.5]), OPEN) == {"known_positive": [0]}


def test_positives_that_stand_in_no_document_are_never_chosen() -> None:
    view = view_of(documents_of("a"), [0.5])
    with_added = replace(
        view,
        rows=np.array([0, 1]),
        scores=np.array([0.5, 0.4], dtype=np.float32),
        ranks=np.zeros(2, dtype=np.int64),
        known_positives=np.empty(0, dtype=np.int64),
    )
    assert refused_rows(with_added, OPEN) == {"known_positive": [1]}


def test_copy_of_the_query_is_refused() -> None:
    view = view_of(documents_of("How do I read  a file", "other"), [0.9, 0.1])
    assert refused_rows(view, OPEN) == {"copy_of_query": [0]}


def test_rank_window_counts_after_known_positives_have_left() -> None:
    view = view_of(documents_of(PAIR.positive, "a", "b", "c", "d"), [0.9, 0.8, 0.7, 0.6, 0.5])
    rules = replace(OPEN, first_rank=2, last_rank=3)
    survivors, refused = apply_rules(view, rules)
    assert refused["rank_window"].rows.tolist() == [1, 4]
    assert survivors.rows.tolist() == [2, 3]
    assert survivors.ranks.tolist() == [2, 3]


def test_same_source_is_refused_by_the_file_of_the_pair() -> None:
    documents = [
        Document(id="0", text="a neighbour", origin="guide/files.md:40"),
        Document(id="1", text="elsewhere", origin="guide/net.md:3"),
        Document(id="2", text="from nowhere"),
    ]
    view = view_of(documents, [0.5, 0.4, 0.3])
    rules = replace(OPEN, exclude_same_source=True)
    assert refused_rows(view, rules) == {"same_source": [0]}


def test_same_source_knows_the_file_of_the_positive_when_the_pair_names_none() -> None:
    pair = replace(PAIR, origin="")
    documents = [
        Document(id="0", text=PAIR.positive, origin="guide/files.md:3"),
        Document(id="1", text="a neighbour", origin="guide/files.md:40"),
    ]
    rules = replace(OPEN, exclude_same_source=True)
    refused = refused_rows(view_of(documents, [0.9, 0.5], pair=pair), rules)
    assert refused == {"known_positive": [0], "same_source": [1]}


def test_same_group_is_refused_and_documents_without_group_stay() -> None:
    documents = [
        Document(id="0", text="a", group="io"),
        Document(id="1", text="b", group="net"),
        Document(id="2", text="c"),
    ]
    rules = replace(OPEN, exclude_same_group=True)
    assert refused_rows(view_of(documents, [0.5, 0.4, 0.3]), rules) == {"same_group": [0]}


def test_score_bounds_are_exclusive() -> None:
    view = view_of(documents_of("a", "b", "c", "d"), [0.75, 0.5, 0.25, 0.125])
    rules = replace(OPEN, max_score=0.5, min_score=0.25)
    assert refused_rows(view, rules) == {"max_score": [0], "min_score": [3]}


def test_absolute_margin_keeps_a_distance_from_the_positive() -> None:
    view = view_of(documents_of("a", "b", "c"), [0.79, 0.71, 0.69])
    assert refused_rows(view, replace(OPEN, absolute_margin=0.1)) == {"absolute_margin": [0, 1]}


def test_perc_pos_cuts_at_95_percent_of_the_positive() -> None:
    view = view_of(documents_of("a", "b", "c"), [0.9, 0.77, 0.75])
    assert refused_rows(view, replace(OPEN, perc_pos=0.95)) == {"perc_pos": [0, 1]}


def test_perc_pos_stays_below_a_negative_positive_score() -> None:
    """A cross-encoder's logit of -4: 0.95 x -4 = -3.8 would let worse-than-nothing through."""
    view = view_of(documents_of("a", "b", "c"), [-3.9, -4.1, -4.3])
    view = replace(view, positive_score=-4.0)
    assert refused_rows(view, replace(OPEN, perc_pos=0.95)) == {"perc_pos": [0, 1]}


def test_answer_inside_a_longer_candidate_is_refused() -> None:
    pair = replace(PAIR, positive="Mount Everest")
    view = view_of(
        documents_of("It is mount everest, in Nepal.", "mount everestus", "everest mount"),
        [0.5, 0.4, 0.3],
        pair=pair,
    )
    assert refused_rows(view, replace(OPEN, exclude_answers=True)) == {"answer": [0]}


def test_near_duplicate_of_the_positive_is_refused() -> None:
    near = PAIR.positive + " again"
    far = "open the path and call write on the socket that was given"
    view = view_of(documents_of(near, far), [0.5, 0.4])
    assert refused_rows(view, replace(OPEN, near_duplicate=0.8)) == {"near_duplicate": [0]}


def test_near_duplicate_of_another_positive_of_the_query_is_refused() -> None:
    other = "use pathlib and its read text method to get everything at once"
    documents = documents_of(other + " now", "nothing alike at all in this text")
    corpus = MiningCorpus(documents, [PAIR, replace(PAIR, positive=other)])
    keys = np.array(sorted(map(text_key, (PAIR.positive, other))), dtype=np.int64)
    view = replace(view_of(documents, [0.5, 0.4]), corpus=corpus, known_positives=keys)
    assert refused_rows(view, replace(OPEN, near_duplicate=0.8)) == {"near_duplicate": [0]}


def test_a_candidate_is_charged_to_the_first_rule_alone() -> None:
    near = PAIR.positive + " again"
    view = view_of(documents_of(near), [0.79])
    rules = replace(OPEN, perc_pos=0.95, near_duplicate=0.8, exclude_answers=True)
    assert refused_rows(view, rules) == {"perc_pos": [0]}


def test_draw_takes_the_best_and_no_text_twice() -> None:
    view = view_of(documents_of("a", "A", "b", "c"), [0.5, 0.5, 0.4, 0.3])
    survivors, _ = apply_rules(view, OPEN)
    assert draw(survivors, OPEN).rows.tolist() == [0, 2]


def test_random_draw_stays_in_top_k_and_repeats_with_its_seed() -> None:
    view = view_of(documents_of(*map(str, range(30))), [1 - i / 40 for i in range(30)])
    survivors, _ = apply_rules(view, OPEN)
    draws = set()
    for seed in range(40):
        rules = replace(OPEN, sampling="random", top_k=5, seed=seed)
        rows = draw(survivors, rules).rows.tolist()
        assert rows == draw(survivors, rules).rows.tolist()
        assert rows == sorted(set(rows))
        assert len(rows) == 2
        assert max(rows) < 5
        draws.add(tuple(rows))
    assert len(draws) == 10, "forty seeds find all pairs of five"


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40), st.integers(0, 2**16))
def test_every_candidate_has_exactly_one_fate(scores: list[float], seed: int) -> None:
    scores = sorted(scores, reverse=True)
    rules = MiningRules(
        num_negatives=3, first_rank=2, last_rank=20, sampling="random", seed=seed, max_score=0.7
    )
    view = view_of(documents_of(*(f"text {i}" for i in range(len(scores)))), scores)
    survivors, refused = apply_rules(view, rules)
    fates = np.concatenate([survivors.rows, *(part.rows for part in refused.values())])
    assert sorted(fates.tolist()) == view.rows.tolist()
    assert set(draw(survivors, rules).rows) <= set(survivors.rows)
    assert list(refused) == active_rules(rules)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_negatives": 0}, "num_negatives must be >= 1, got 0"),
        ({"first_rank": 0}, "1 <= first_rank <= last_rank, got 0 to 100"),
        ({"first_rank": 9, "last_rank": 8}, "got 9 to 8"),
        ({"last_rank": 6}, "num_negatives is 7 but the rank window holds only 6"),
        ({"top_k": 9}, "with sampling: top it does nothing"),
        ({"top_k": 3, "sampling": "random"}, r"top_k must be >= num_negatives \(7\), got 3"),
        ({"perc_pos": 0.0}, r"perc_pos must be in \(0, 1\], got 0.0"),
        ({"near_duplicate": 1.5}, r"near_duplicate must be in \(0, 1\], got 1.5"),
        ({"min_score": 0.7, "max_score": 0.4}, "min_score must be below max_score"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MiningRules(**settings)  # type: ignore[arg-type]


def test_origin_without_a_line_is_a_source_of_its_own() -> None:
    assert source_file("a/b.py:12") == "a/b.py"
    assert source_file("a/b.py") == "a/b.py"
    assert source_file("C:\\x") == "C:\\x"


def test_corpus_of_pairs_holds_each_positive_once() -> None:
    pairs = [PAIR, replace(PAIR, query="again"), replace(PAIR, positive="else", group="g")]
    documents = corpus_of_pairs(pairs)
    assert [(d.text, d.group) for d in documents] == [(PAIR.positive, "io"), ("else", "g")]


def test_chinese_characters_are_words() -> None:
    assert words("读取 file_name!") == ("读", "取", "file", "name")


@given(st.text("ab \n.", max_size=20), st.text("ab \n.", max_size=20))
def test_contains_run_equals_a_slow_search(text: str, run: str) -> None:
    have, want = words(text), words(run)
    slow = bool(want) and any(
        have[i : i + len(want)] == want for i in range(len(have) - len(want) + 1)
    )
    assert contains_run(have, want) == slow


@given(st.text("abc ", max_size=40), st.text("abc ", max_size=40))
def test_jaccard_is_symmetric_and_one_for_itself(left: str, right: str) -> None:
    one, two = shingles(words(left)), shingles(words(right))
    assert jaccard(one, two) == jaccard(two, one)
    assert jaccard(one, one) == (1.0 if one else 0.0)
