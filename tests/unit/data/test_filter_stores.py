"""A filtered store holds what the filters keep, says why the rest went, and survives a kill."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from opengte.cli.main import run
from opengte.data.build import build_store
from opengte.data.evaluation_sets import EvaluationSet
from opengte.data.filtered_build import build_filtered_store
from opengte.data.filters import (
    FilterReport,
    FiltersConfig,
    LengthFilter,
    RepetitionFilter,
    ScoreFilter,
)
from opengte.data.filters import stores as filter_stores
from opengte.data.filters.stores import filter_store
from opengte.data.manifest import SourceFacts
from opengte.data.minhash import NearDuplicateConfig
from opengte.data.negatives import add_negatives
from opengte.data.store import PairStore, verify_store
from opengte.data.writers import write_pairs
from opengte.errors import DataError, StorageError
from opengte.records import Pair

SENTENCE = "Stocks fell sharply after the announcement."
PAIRS = {
    "a": [
        Pair("what is a bridge", "a way over a river", score=0.2),
        Pair("what is a cat", "a small animal with fur"),
        Pair("what is a cat", "a small animal with fur"),
        Pair("x", "too short a query to keep"),
        Pair("news of today", f"We report: {SENTENCE} So it is."),
    ],
    "b": [
        Pair("What is a cat ", "a small animal with fur"),
        Pair("what is a bridge", "a way over a river", score=0.9),
        Pair("what is a dog", "the friend of man", ("a small animal with fur", SENTENCE)),
        Pair("say it again", "one two three four five six " * 12),
    ],
}
EVALUATION = [EvaluationSet("news", "test", ((SENTENCE, "the second sentence"),))]
CONFIG = FiltersConfig(
    length=LengthFilter(min_query_words=2),
    repetition=RepetitionFilter(),
    score=ScoreFilter(min_score=0.5),
    duplicates="pair",
)
REASONS = {
    "score too low": 1,
    "query too short": 1,
    "in an evaluation set (characters)": 1,
    "duplicate": 2,
    "repeats its words": 1,
}


def store_of(folder: Path, pairs: dict[str, list[Pair]] = PAIRS) -> Path:
    files = [folder / f"{name}.jsonl" for name in pairs]
    for file, rows in zip(files, pairs.values(), strict=True):
        write_pairs(file, rows)
    build_store(
        files, folder / "store", num_workers=1, facts={"a": SourceFacts(task="sts", licence="CC0")}
    )
    return folder / "store"


def texts(store: Path) -> dict[str, list[tuple[str, str]]]:
    opened = PairStore(store)
    return {
        name: [(pair.query, pair.positive) for pair in opened.pairs(name)] for name in opened.names
    }


def test_what_stays_stands_in_the_store_and_what_goes_in_the_counts(tmp_path: Path) -> None:
    report = filter_store(store_of(tmp_path), tmp_path / "out", CONFIG, evaluation=EVALUATION)
    assert texts(tmp_path / "out") == {
        "a": [("what is a cat", "a small animal with fur")],
        "b": [
            ("what is a bridge", "a way over a river"),  # the row before it went for its score
            ("what is a dog", "the friend of man"),
        ],
    }
    assert report.dropped == REASONS
    assert report.negatives_dropped == {"negative in an evaluation set (exact)": 1}
    assert (report.num_pairs, report.num_kept) == (9, 3)
    opened = PairStore(tmp_path / "out")
    bridge, dog = opened.pairs("b")
    assert dog.negatives == ("a small animal with fur",)
    assert bridge.origin == "b.jsonl:2"
    counted: Counter[str] = Counter()
    for entry in opened.manifest.sources.values():
        counted.update(entry.filtered)
    assert counted == REASONS
    facts = opened.manifest.sources["a"].facts
    assert (facts.task, facts.licence) == ("sts", "CC0")
    assert [each.file for each in opened.manifest.sources["a"].inputs] == ["a.jsonl"]
    verify_store(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.jsonl",
        "b.jsonl",
        "out",
        "store",
    ]


def test_without_filters_a_store_stays_as_it_is(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    report = filter_store(store, tmp_path / "out", FiltersConfig())
    assert texts(tmp_path / "out") == texts(store)
    assert (report.num_kept, report.dropped) == (9, {})


def test_near_duplicates_go_within_their_source(tmp_path: Path) -> None:
    passage = "The quick brown fox jumps over the lazy dog near the river bank every morning."
    query = "What does the quick brown fox jump over in the morning?"
    rows = [Pair(query, passage), Pair(query[:-1], passage + " Yes."), Pair("who sleeps", passage)]
    store = store_of(tmp_path, {"a": rows, "b": rows[:1]})
    report = filter_store(
        store, tmp_path / "out", FiltersConfig(near_duplicates=NearDuplicateConfig())
    )
    assert report.dropped == {"near-duplicate": 1}
    assert report.num_kept == 3
    assert [query for query, _ in texts(tmp_path / "out")["a"]] == [query, "who sleeps"]


@pytest.mark.parametrize("failing", ["b", "a"])
def test_a_filtering_that_was_cut_off_goes_on_and_ends_alike(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    whole = filter_store(store, tmp_path / "whole", CONFIG, evaluation=EVALUATION)
    given = filter_stores.write_shard

    def fails(folder: Path, file: str, batches: Any) -> Any:
        if f"{failing}-" in file:
            raise StorageError("the disk is full", path=folder / file)
        return given(folder, file, batches)

    monkeypatch.setattr(filter_stores, "write_shard", fails)
    with pytest.raises(StorageError):
        filter_store(store, tmp_path / "out", CONFIG, evaluation=EVALUATION)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(filter_stores, "write_shard", given)
    again = filter_store(store, tmp_path / "out", CONFIG, evaluation=EVALUATION)
    assert again.summary() == whole.summary()
    assert (tmp_path / "out/manifest.json").read_bytes() == (
        tmp_path / "whole/manifest.json"
    ).read_bytes()


def test_a_cut_off_filtering_with_other_settings_takes_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(filter_stores, "forget_all_but", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            filter_store(store, tmp_path / "out", CONFIG, evaluation=EVALUATION)
    report = filter_store(store, tmp_path / "out", FiltersConfig(duplicates="pair"))
    assert report.dropped == {"duplicate": 3}
    files = sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert files == ["a-00000.arrow", "b-00000.arrow", "manifest.json"]


def test_what_cannot_be_filtered_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    with pytest.raises(DataError, match="the filters left none of 9 pairs"):
        filter_store(
            store, tmp_path / "out", FiltersConfig(length=LengthFilter(min_query_words=99))
        )
    with pytest.raises(DataError, match="exists already; choose another --out"):
        filter_store(store, store, CONFIG)
    add_negatives(store, "a", [0], [["x"]], valid_from=0)
    with pytest.raises(DataError, match="refreshed negatives, which number its rows"):
        filter_store(store, tmp_path / "out", CONFIG)


def test_a_killed_filtered_build_reads_its_files_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(tmp_path)
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    with open(tmp_path / "b.jsonl", "a") as stream:
        stream.write("no json\n")
    options: dict[str, Any] = {"on_bad_row": "skip", "num_workers": 1}
    with monkeypatch.context() as patch:
        patch.setattr(filter_stores, "forget_all_but", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_filtered_store(files, tmp_path / "out", CONFIG, **options)
    monkeypatch.setattr("opengte.data.filtered_build.build_store", lambda *_: 1 / 0)
    found = build_filtered_store(files, tmp_path / "out", CONFIG, **options)
    assert (found.built.num_pairs, found.filtered.num_pairs) == (4, 9)
    assert found.built.report.skipped == {"not JSON": 1}
    assert found.built.quarantine == tmp_path / "out" / "quarantine"
    assert "no json" in (tmp_path / "out/quarantine/b.jsonl").read_text()
    assert not list(tmp_path.glob(".*"))


def gte(*arguments: object) -> int:
    return run(["data", *map(str, arguments)])


def test_build_with_filter_options_tells_the_counts_by_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_of(tmp_path)
    (tmp_path / "news").mkdir()
    (tmp_path / "news/test.jsonl").write_text(json.dumps({"sentence1": SENTENCE, "score": 1}))
    code = gte(
        "build", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--out", tmp_path / "out",
        "--workers", 1, "--quiet", "--drop-duplicates", "pair", "--min-query-words", 2,
        "--drop-repetitive", "--min-score", 0.5, "--decontaminate", tmp_path / "news",
        "--json", tmp_path / "found.json",
    )  # fmt: skip
    told = capsys.readouterr()
    assert code == 0, told.err
    assert "3 pairs of 2 sources" in told.out
    for reason, number in REASONS.items():
        assert f"{number}  dropped: {reason}" in told.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["filtered"]["dropped"] == REASONS
    assert found["num_pairs"] == 3
    assert len(texts(tmp_path / "out")) == 2


def test_filter_command_makes_a_smaller_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path)
    given = ("--drop-duplicates", "query", "--drop-copies", "--drop-answered-negatives")
    assert gte("filter", store, "--out", tmp_path / "out", "--quiet", *given) == 0
    assert "6 of 9 pairs kept" in capsys.readouterr().out
    assert len(PairStore(tmp_path / "out").names) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no filter was given; `gte data filter --help` lists them"),
        (["--language", "english"], "no language 'english'"),
        (["--drop-near-duplicates", "2"], "'--drop-near-duplicates': 2.0 is not in the range"),
        (["--max-query-words", "0"], "max_query_words 0 is less than min_query_words 1"),
        (["--max-length-ratio", "0"], "max_ratio must be >= 1, got 0"),
        (["--decontaminate", "nowhere"], "no such evaluation set"),
    ],
)
def test_filter_options_that_make_no_sense_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("py3langid")
    assert gte("filter", store_of(tmp_path), "--out", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err


def test_reports_of_sources_add_up() -> None:
    total = FilterReport()
    for _ in range(3):
        one = FilterReport(num_pairs=2, num_kept=1)
        one.drop("short", Pair("a", "b"))
        total.merge(one)
    assert total.num_pairs == total.num_kept + total.dropped.total() == 6
