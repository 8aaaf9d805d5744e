"""The data report says what the mixture does, and shows it in a terminal and on one page."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from opengte.cli.main import run
from opengte.data.build import build_store
from opengte.data.evaluation_sets import EvaluationSet
from opengte.data.mixture import Mixture, MixtureConfig, Source
from opengte.data.report import DataReport, make_report
from opengte.data.report_page import print_report, write_page
from opengte.data.writers import write_pairs
from opengte.errors import ConfigError
from opengte.records import Pair

CONFIG = MixtureConfig(batch_size=10, alpha=0.5, seed=3)
LONG = "word " * 40


def sources() -> list[Source]:
    small = [Pair(f"small {i}", f"answer {i % 5}") for i in range(20)]
    large = [Pair(f"large <b>{i}</b>", f"{LONG} {i}") for i in range(78)]
    large += [large[0], Pair("large", "no answer", score=0.0)]
    return [Source.from_pairs("small", small), Source.from_pairs("large", large, task="sts")]


def report(**options: object) -> DataReport:
    return make_report(sources(), CONFIG, **options)  # type: ignore[arg-type]


def test_mix_table_is_that_of_the_mixture() -> None:
    found = report(num_steps=300)
    mixture = Mixture(sources(), CONFIG)
    rows = {row.name: row for row in found.sources}
    assert found.num_pairs == 100
    assert rows["large"].num_usable == 79  # score 0 does not match
    assert {name: row.share for name, row in rows.items()} == pytest.approx(mixture.shares)
    assert sum(row.share for row in found.sources) == pytest.approx(1)
    steps = [mixture.group_of(step).name for step in range(300)]
    for name, row in rows.items():
        assert row.steps == pytest.approx(300 * mixture.shares[name])
        assert row.steps == pytest.approx(steps.count(name), abs=2)
        assert row.epochs == pytest.approx(row.steps * 10 / row.num_usable)


@pytest.mark.parametrize("mode", ["one_source", "one_task", "mixed"])
def test_epochs_count_the_rows_that_batches_draw(mode: str) -> None:
    config = MixtureConfig(batch_size=10, mode=mode, seed=3)  # type: ignore[arg-type]
    found = make_report(sources(), config, num_steps=400)
    mixture = Mixture(sources(), config)
    drawn = np.zeros(2)
    for step in range(400):
        drawn += np.bincount(mixture.plan(step).sources, minlength=2)
    for count, row in zip(drawn, found.sources, strict=True):
        assert row.epochs == pytest.approx(count / row.num_usable, rel=0.05)


def test_about_one_epoch_is_planned_by_default() -> None:
    found = report()
    assert found.num_steps == round(99 / 10)
    drawn = sum(row.epochs * row.num_usable for row in found.sources)
    assert drawn == pytest.approx(99, abs=10)


def test_duplicates_and_shared_positives_are_shares_of_rows() -> None:
    rows = {row.name: row for row in report().sources}
    assert rows["large"].duplicates == pytest.approx(1 / 80)
    assert rows["small"].duplicates == 0
    assert rows["small"].shared_positives == 1
    assert rows["large"].shared_positives == 0  # a repeated pair is one query
    positives = report().positives
    assert [(each.source, each.num_queries) for each in positives] == [("small", 4)] * 5
    assert positives[0].text.startswith("answer")


def test_near_duplicates_are_looked_for_when_asked() -> None:
    assert all(row.near_duplicates is None for row in report().sources)
    rows = {row.name: row for row in report(near_duplicate_rows=100).sources}
    assert rows["large"].near_duplicates is not None
    assert rows["large"].near_duplicates >= 1 / 80


def test_pairs_in_several_sources_are_counted() -> None:
    both = [Pair("a question", "its answer"), Pair("a question", "its answer"), Pair("b", "c d")]
    given = [Source.from_pairs("one", both), Source.from_pairs("two", both[:2])]
    assert make_report(given, CONFIG).duplicates_across == 1


def test_truncation_and_tokens_per_step_by_a_tokenizer_or_by_estimate() -> None:
    found = report(lengths=(2, 41, 42), max_tokens=30)
    large = next(row for row in found.sources if row.name == "large")
    assert large.truncated == pytest.approx({2: 79 / 80, 41: 0, 42: 0}, abs=1 / 79)
    assert found.tokens_counted == "estimated"
    shares = Mixture(sources(), CONFIG).shares
    counted = report(count_tokens=lambda texts: [100] * len(texts), max_tokens=30)
    assert counted.tokens_counted == "tokenizer"
    assert counted.tokens_per_step == pytest.approx(10 * (30 + 30))
    assert counted.sources[0].truncated[64] == 1
    assert found.tokens_per_step == pytest.approx(
        10 * shares["small"] * 4 + 10 * shares["large"] * (6 + 30), rel=0.1
    )


def test_rows_skipped_as_repeats_are_those_of_the_batches() -> None:
    found = report(num_steps=15)
    mixture = Mixture(sources(), CONFIG)
    skipped = [1 - mixture.plan(step).kept.mean() for step in range(15)]
    assert found.skipped_per_step == pytest.approx(np.mean(skipped))
    assert found.skipped_per_step > 0.1


def test_samples_are_rows_of_the_source() -> None:
    pairs = {(p.query, p.positive) for s in sources() for p in s.rows.pairs()}
    for row in report(num_samples=4).sources:
        assert len(set(row.samples)) == 4
        assert set(row.samples) <= pairs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps must be >= 1, got 0"),
        ({"lengths": ()}, "lengths must be >= 1"),
        ({"max_tokens": 0}, "max_tokens 0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        report(**options)


VERDICTS = [
    EvaluationSet("leaky & co", "test", (("large <b>7</b>",),)),
    EvaluationSet("trained", "test", (("far away from it",),), training=("large <b>9</b>",)),
    EvaluationSet("fresh", "dev", (("far away from it",),)),
]


class Checker(HTMLParser):
    """Collects what a page would load, and the tags that stay open."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]
        self.loads += [tag] * (tag in ("script", "link", "iframe", "img"))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_stands_alone_and_shows_every_part(tmp_path: Path) -> None:
    write_page(report(evaluation=VERDICTS), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    assert checker.loads == []
    assert checker.open == []
    assert "url(" not in page
    assert "@import" not in page
    text = html.unescape(re.sub("<[^>]+>", " ", page))
    for part in ("Mixture", "Truncation", "Evaluation sets", "many queries", "Sample rows"):
        assert part in text
    assert "large <b>7</b>" in text  # shown, not obeyed
    assert "<b>7" not in page
    for each, verdict in (("leaky & co", "leaked"), ("fresh", "zero-shot")):
        assert re.search(rf"{each} \((test|dev)\)\s+{verdict}", text)


def test_page_survives_texts_that_utf8_cannot_hold(tmp_path: Path) -> None:
    evaluation = EvaluationSet("a \ud800 b", "test", (("far away from it",),))
    write_page(report(evaluation=[evaluation]), tmp_path / "report.html")
    assert "a ? b" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 200])
def test_terminal_shows_whole_numbers_at_any_width(width: int) -> None:
    out = StringIO()
    print_report(report(num_steps=300, evaluation=VERDICTS), console=Console(file=out, width=width))
    shown = out.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    line = next(line for line in shown.splitlines() if line.startswith("large"))
    assert "…" not in line
    assert ("79" in line) == (width == 200)  # the usable rows
    for words in ("leaky & co (test)", "in-domain train", "zero-shot", "1 of 1", "large 1"):
        assert words in shown


def test_command_prints_the_report_and_writes_page_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in sources():
        write_pairs(tmp_path / f"{source.name}.jsonl", source.rows.pairs())
    files = [tmp_path / "small.jsonl", tmp_path / "large.jsonl"]
    build_store(files, tmp_path / "store", num_workers=1)
    (tmp_path / "news").mkdir()
    (tmp_path / "news/test.jsonl").write_text('{"text": "large <b>7</b>"}\n')
    code = run(
        ["data", "report", str(tmp_path / "store"), "--batch-size", "10", "--alpha", "1",
         "--steps", "50", "--evaluation", str(tmp_path / "news"), "--mode", "mixed", "--quiet",
         "--page", str(tmp_path / "page.html"), "--json", str(tmp_path / "report.json")]
    )  # fmt: skip
    told = capsys.readouterr()
    assert code == 0, told.err
    assert "100 pairs of 2 sources; mode mixed, alpha 1.0, batches of 10; 50 steps" in " ".join(
        told.out.split()
    )
    found = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in found["sources"]] == ["large", "small"]
    assert found["sources"][0]["share"] == pytest.approx(79 / 99)
    assert found["verdicts"][0]["verdict"] == "leaked"
    assert found["verdicts"][0]["rows"][0]["source"] == "large"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_command_counts_tokens_as_the_model_does(
    tmp_path: Path, minilm_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "a.jsonl", [Pair("hello world", "unbelievably antidisestablishment")])
    build_store([tmp_path / "a.jsonl"], tmp_path / "store", num_workers=1)
    arguments = ["--tokenizer", str(minilm_folder), "--json", str(tmp_path / "report.json")]
    assert run(["data", "report", str(tmp_path / "store"), *arguments, "--quiet"]) == 0
    capsys.readouterr()
    row = json.loads((tmp_path / "report.json").read_text())["sources"][0]
    assert row["query_tokens"] == 4  # [CLS] hello world [SEP]
    assert row["positive_tokens"] > 4
