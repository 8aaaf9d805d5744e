"""A verdict on an evaluation set says what was found, where, and by which rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from opengte.data.build import build_store
from opengte.data.evaluation_sets import EvaluationSet, read_evaluation_set
from opengte.data.leakage import SetVerdict, judge_evaluation_sets
from opengte.data.mixture import Source
from opengte.data.store import PairStore
from opengte.records import Pair

SENTENCE = "Stocks fell sharply after the announcement."
OTHER = "A man is playing the guitar on a stage."
TRAINED = "The river rose by two metres overnight."
DOCUMENT = "Bridges carry roads over rivers and valleys."


def news(**more: object) -> EvaluationSet:
    measured = ((SENTENCE, OTHER), (OTHER, "yes"))
    return EvaluationSet("news", "test", measured, **more)  # type: ignore[arg-type]


def judge(*pairs: Pair, evaluation: EvaluationSet | None = None) -> SetVerdict:
    sources = [
        Source.from_pairs("clean", [Pair("what is a cat", "a small animal with fur")]),
        Source.from_pairs("suspect", pairs),
    ]
    return judge_evaluation_sets(sources, [evaluation or news()])[0]


def test_a_set_whose_texts_stand_nowhere_is_zero_shot() -> None:
    found = judge(Pair("yes", "no"), Pair("a guitar", "on a stage"))
    assert (found.verdict, found.num_leaked, found.num_rows) == ("zero-shot", 0, 2)
    assert (found.by_source, found.rows) == ({}, ())


def test_a_leaked_set_names_source_row_side_rule_and_both_texts() -> None:
    found = judge(Pair("x", "y"), Pair("x", f"We heard: {SENTENCE} So it is."))
    assert (found.verdict, found.num_leaked) == ("leaked", 1)
    assert found.by_source == {"suspect": 1}
    assert found.by_rule == {"characters": 1}
    (row,) = found.rows
    assert (row.source, row.row, row.side, row.rule) == ("suspect", 1, "positive", "characters")
    assert row.evaluation_text == SENTENCE
    assert SENTENCE in row.text


def test_a_text_of_several_rows_leaks_them_all() -> None:
    found = judge(Pair(OTHER.upper(), "y"))
    assert (found.num_leaked, found.by_rule) == (2, {"exact": 1})


def test_a_text_among_hard_negatives_leaks_too() -> None:
    found = judge(Pair("x", "y", negatives=("z", SENTENCE)))
    assert (found.verdict, found.rows[0].side) == ("leaked", "negative")


def test_train_split_or_documents_alone_are_in_domain_training() -> None:
    evaluation = news(training=(TRAINED, "yes"), corpus=(DOCUMENT, "another text of it"))
    assert judge(Pair("x", "y"), evaluation=evaluation).verdict == "zero-shot"
    found = judge(Pair(TRAINED, "yes"), Pair("x", DOCUMENT), evaluation=evaluation)
    assert (found.verdict, found.num_leaked) == ("in-domain train", 0)
    assert (found.num_training, found.of_training) == (1, 2)
    assert (found.num_corpus, found.of_corpus) == (1, 2)
    assert judge(Pair(TRAINED, SENTENCE), evaluation=evaluation).verdict == "leaked"


def test_sets_are_judged_together_as_alone() -> None:
    sources = [Source.from_pairs("s", [Pair(SENTENCE, TRAINED), Pair("x", DOCUMENT)])]
    sets = [
        news(),
        EvaluationSet("other", "test", ((SENTENCE,), (DOCUMENT,))),
        EvaluationSet("far", "test", (("nothing of this is there",),), training=(TRAINED,)),
    ]
    told: list[tuple[int, int | None]] = []
    together = judge_evaluation_sets(sources, sets, progress=lambda *at: told.append(at))
    assert together == [judge_evaluation_sets(sources, [each])[0] for each in sets]
    assert [each.verdict for each in together] == ["leaked", "leaked", "in-domain train"]
    assert told[-1] == (2, 2)
    assert judge_evaluation_sets(sources, []) == []


def test_only_so_many_rows_are_shown_but_all_are_counted() -> None:
    pairs = [Pair(f"{SENTENCE} {'!' * i}", f"answer {i}") for i in range(9)]
    found = judge_evaluation_sets([Source.from_pairs("s", pairs)], [news()], max_rows=4)[0]
    assert len(found.rows) == 4
    assert found.by_rule == {"exact": 9}


@pytest.mark.slow
@pytest.mark.shared
def test_known_overlaps_of_the_shared_pairs_are_found(shared_data: Path, tmp_path: Path) -> None:
    """CATALOG.md says which: they were left in, or only pairs with both sides were dropped."""
    names = ("stsb_train", "simclue", "afqmc_train", "gsm8k_train")
    files = [shared_data / "pairs" / f"{name}.jsonl.zst" for name in names]
    build_store(files, tmp_path / "store")
    sets = ("sts12", "sts13", "sts14", "sts15", "lcqmc", "afqmc", "cranfield", "stsbenchmark")
    verdicts = judge_evaluation_sets(
        PairStore(tmp_path / "store").sources(),
        [read_evaluation_set(shared_data / "eval" / name) for name in sets],
    )
    found = {each.name: each for each in verdicts}
    for name in ("sts12", "sts13", "sts14", "sts15"):
        assert found[name].verdict == "leaked"
        assert found[name].by_source["stsb_train"] > 100
    for name in ("lcqmc", "afqmc"):
        assert found[name].verdict == "leaked"
        for source in ("simclue", "afqmc_train"):
            assert found[name].by_source[source] > 0, (name, source)
    assert found["cranfield"].verdict == "zero-shot"
    assert found["stsbenchmark"].num_training > 9_000
