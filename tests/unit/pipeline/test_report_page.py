"""The report page: whole, honest, escaped, and in need of nothing else."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from opengte.errors import ConfigError
from opengte.metrics.bootstrap import Interval
from opengte.pipeline.report_charts import Axis, number
from opengte.pipeline.report_data import (
    Candidate,
    CorpusFacts,
    Decision,
    FoundDocument,
    Headline,
    LossCurve,
    ReportData,
    SearchExample,
    SkippedRow,
    SliceRow,
    SourceRow,
    SplitRow,
    StageTime,
    SystemRow,
    similarity_histogram,
)
from opengte.pipeline.report_page import change, duration, render_report, snippet
from opengte.runtime.hashed import HashEncoder

PAIRS = Path(__file__).resolve().parents[3] / "examples/data/pairs/docstring_code.jsonl"


def around(mean: float, half: float) -> Interval:
    return Interval(mean, round(mean - half, 4), round(mean + half, 4))


def sample_searches(num: int = 10) -> tuple[list[SearchExample], list[SearchExample], list]:
    """Real queries and functions, ranked by two hash encoders that stand for before and after."""
    rows = [json.loads(line) for line in PAIRS.read_text("utf-8").splitlines()]
    texts = [row["positive"] for row in rows]
    queries = [row["query"] for row in rows]
    rankings, cosines = [], []
    for encoder in (HashEncoder(64), HashEncoder(512, seed=3)):
        similarity = encoder.encode(queries) @ encoder.encode(texts).T
        rankings.append(np.argsort(-similarity, axis=1, kind="stable"))
        cosines.append(similarity)

    def found(system: int, query: int) -> list[FoundDocument]:
        return [
            FoundDocument(
                origin=rows[d]["origin"],
                text=texts[d],
                score=float(cosines[system][query, d]),
                relevant=bool(d == query),
            )
            for d in rankings[system][query][:3]
        ]

    def rank(system: int, query: int) -> int | None:
        place = int(np.flatnonzero(rankings[system][query] == query)[0]) + 1
        return place if place <= 100 else None

    examples = [
        SearchExample(
            query=queries[q],
            rank_before=rank(0, q),
            rank_after=rank(1, q),
            before=found(0, q),
            after=found(1, q),
        )
        for q in range(len(queries))
    ]
    gains = [1 / (e.rank_after or 1e9) - 1 / (e.rank_before or 1e9) for e in examples]
    order = np.argsort(gains, kind="stable")
    histograms = [
        similarity_histogram(
            name,
            np.diag(c).tolist(),
            c[np.arange(len(c)), np.roll(np.arange(len(c)), 7)].tolist(),
        )
        for name, c in zip(("base", "final"), cosines, strict=True)
    ]
    better = [examples[i] for i in order[::-1][:num]]
    return better, [examples[i] for i in order[:num]], histograms


def sample_losses() -> list[LossCurve]:
    chance = random.Random(0)
    curves = []
    for source, level in (("docstring-code", 1.2), ("heading-section", 0.7), ("name-text", 1.6)):
        points = []
        for step in range(1, 301):
            base = level * (0.35 + 0.65 * math.exp(-step / 60)) + (0.25 if step > 220 else 0)
            points.append((step, base * chance.uniform(0.75, 1.25)))
        curves.append(LossCurve(source=source, points=points))
    every = [
        (s, sum(c.points[i][1] for c in curves) / 3) for i, (s, _) in enumerate(curves[0].points)
    ]
    return [LossCurve(source="all sources", points=every), *curves]


@cache
def sample_report() -> ReportData:
    """What a real run looks like, with real texts of the standard library."""
    better, worse, histograms = sample_searches()
    names = ("MRR@10", "nDCG@10", "recall@10")
    systems = [
        ("BM25", "camelCase and snake_case split", 0.376, "other"),
        ("Base", "all-MiniLM-L6-v2", 0.591, "base"),
        ("Base + BM25", "reciprocal rank fusion", 0.602, "other"),
        ("Stage 1", "weak pairs, joint contrastive loss", 0.652, "other"),
        ("Final", "mined negatives, 0.8 tuned + 0.2 base", 0.667, "final"),
        ("Final + BM25", "reciprocal rank fusion", 0.671, "other"),
    ]
    slices = [
        ("all", "every held-out query", 812, 0.591, 0.667, 0.018),
        ("name masked", "is it only the function's name?", 812, 0.425, 0.481, 0.019),
        ("low overlap", "the third that shares fewest words", 271, 0.378, 0.455, 0.036),
        ("unseen package", "packages no pair of which was trained on", 640, 0.602, 0.671, 0.021),
        ("general", "English questions on health, climate, beer", 360, 0.736, 0.731, 0.008),
    ]
    return ReportData(
        name="quickstart",
        corpus_name="the Python standard library and 41 installed packages",
        made_at="21 November 2026, 14:07",
        version="0.1.0",
        headline=Headline(
            metric="MRR@10",
            base=around(0.591, 0.027),
            final=around(0.667, 0.026),
            difference=Interval(0.076, 0.057, 0.095, "queries only"),
            num_queries=812,
            num_documents=5000,
            num_groups=37,
            group_name="packages",
        ),
        systems=[
            SystemRow(
                name=name,
                description=description,
                interval=around(score, 0.027),
                metrics=dict(zip(names, (score, score + 0.045, score + 0.17), strict=True)),
                role=role,
            )
            for name, description, score, role in systems
        ],
        slices=[
            SliceRow(
                name=name,
                question=question,
                num_queries=num,
                base=around(base, 0.03),
                final=around(final, 0.03),
                difference=around(round(final - base, 3), half),
            )
            for name, question, num, base, final, half in slices
        ],
        losses=sample_losses(),
        stage_starts=[("pre-training", 1), ("fine-tuning", 221)],
        similarities=histograms,
        better=better,
        worse=worse,
        decisions=[
            Decision(
                question="How much of the base to mix back in?",
                rule="Best dev MRR@10 among those that lose at most 0.010 on the general slice.",
                candidates=[
                    Candidate(name="1.0 tuned", dev=0.662, general=0.724, allowed=False),
                    Candidate(name="0.8 tuned + 0.2 base", dev=0.661, general=0.741, kept=True),
                    Candidate(name="0.6 tuned + 0.4 base", dev=0.653, general=0.749),
                    Candidate(name="base", dev=0.588, general=0.759),
                ],
            ),
            Decision(
                question="Is stage 2 worth keeping?",
                rule="The later model is kept when it is better on dev.",
                candidates=[
                    Candidate(name="after stage 1", dev=0.649),
                    Candidate(name="after stage 2", dev=0.662, kept=True),
                ],
            ),
        ],
        corpus=CorpusFacts(
            fingerprint="9f2c1b7e64d0a1c35be86f0d",
            num_files=3120,
            num_overlap_exact=0,
            num_overlap_near=0,
            sources=[
                SourceRow(
                    name="docstring-code",
                    description="docstring → its function, without it",
                    num_pairs=9412,
                    share=0.52,
                    dropped={"too short": 1204, "near-duplicate": 312},
                ),
                SourceRow(
                    name="heading-section",
                    description="heading → section",
                    num_pairs=3508,
                    share=0.31,
                    dropped={"query repeats in text": 77},
                ),
                SourceRow(
                    name="name-text",
                    description="class or module title → description",
                    num_pairs=1104,
                    share=0.17,
                ),
            ],
            splits=[
                SplitRow(name="train", num_groups=44, num_pairs=14024),
                SplitRow(
                    name="dev", num_groups=12, num_pairs=520, num_queries=498, num_documents=2000
                ),
                SplitRow(
                    name="test", num_groups=37, num_pairs=861, num_queries=812, num_documents=5000
                ),
            ],
            skipped=[
                SkippedRow(reason="not UTF-8", count=3, example="lib2to3/tests/data/bom.py"),
                SkippedRow(reason="does not parse", count=1, example="site-packages/x/bad.py:12"),
            ],
        ),
        stages=[
            StageTime(name="corpus", seconds=21.4),
            StageTime(name="evaluate base and BM25", seconds=58.0, reused=True),
            StageTime(name="pre-training", seconds=172.3, note="220 steps"),
            StageTime(name="mine negatives", seconds=31.0),
            StageTime(name="fine-tuning", seconds=74.9, note="80 steps"),
            StageTime(name="interpolate", seconds=40.2),
            StageTime(name="evaluate", seconds=61.7),
            StageTime(name="export and index", seconds=19.5),
        ],
        training=[
            ("training tokens", "1,482,113"),
            ("loss", "improved contrastive, temperature 0.01"),
            ("batch", "128 pairs"),
            ("learning rate", "5e-5, linear"),
            ("texts cut at 128 tokens", "18.2 %"),
            ("peak memory", "1.9 GB"),
        ],
        environment=[
            ("processor", "2 cores, avx512_bf16"),
            ("torch", "2.13.0"),
            ("seed", "0"),
            ("commit", "bcce87e"),
        ],
        reproduce=[
            "pip install -c constraints.txt -e '.[quickstart]'",
            "gte run runs/quickstart/recipe.resolved.yaml --out runs/again",
        ],
        licences=[("all-MiniLM-L6-v2", "Apache-2.0"), ("standard library", "PSF-2.0")],
    )


class Outline(HTMLParser):
    """Checks that tags nest, and keeps what a browser would act on."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_page_is_well_formed_and_every_link_has_a_target():
    outline = Outline(render_report(sample_report()))
    assert outline.open == []
    targets = {attrs["id"] for _, attrs in outline.tags if "id" in attrs}
    links = {str(attrs["href"]) for tag, attrs in outline.tags if tag == "a"}
    assert links == {f"#{target}" for target in targets} - {"#licences"}


def test_page_runs_no_script_and_asks_for_nothing():
    page = render_report(sample_report())
    outline = Outline(page)
    assert not {tag for tag, _ in outline.tags} & {"script", "link", "img", "iframe", "object"}
    assert not [name for _, attrs in outline.tags for name in attrs if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import", page)
    (policy,) = [a["content"] for _, a in outline.tags if a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_texts_of_the_corpus_are_shown_not_run():
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
    data = sample_report()
    hit = FoundDocument(origin=evil, text=evil, score=0.5, relevant=True)
    search = SearchExample(query=evil, rank_before=2, rank_after=1, before=[hit], after=[hit])
    evil_data = replace(
        data,
        name=evil,
        corpus_name=evil,
        better=[search],
        losses=[LossCurve(source=evil, points=[(1, 1.0), (2, 0.5)])],
        stage_starts=[(evil, 1)],
        similarities=[replace(data.similarities[0], system=evil)],
        notes=[evil],
        reproduce=[evil],
        licences=[(evil, evil)],
        training=[(evil, evil)],
        systems=[replace(data.systems[0], name=evil, description=evil)],
        decisions=[replace(data.decisions[0], question=evil, rule=evil)],
        corpus=replace(
            data.corpus,
            sources=[replace(data.corpus.sources[0], name=evil, dropped={evil: 1})],
            skipped=[SkippedRow(reason=evil, count=1, example=evil)],
        ),
    )
    page = render_report(evil_data)
    outline = Outline(page)
    assert outline.open == []
    assert not {tag for tag, _ in outline.tags} & {"script", "img"}
    assert outline.words.count("<script>alert(1)</script>") >= 15
    assert "49" not in re.findall(r"&amp;(\S*)", page)


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (Interval(0.076, 0.057, 0.095), "MRR@10 rose from 0.591 to 0.667 on 812 searches"),
        (Interval(-0.02, -0.03, -0.01), "MRR@10 fell from 0.591 to 0.667"),
        (Interval(0.01, -0.01, 0.03), "No clear difference: MRR@10 0.591 before, 0.667 after"),
    ],
)
def test_first_sentence_claims_only_what_the_interval_allows(difference, sentence):
    data = sample_report()
    data = replace(data, headline=replace(data.headline, difference=difference))
    assert sentence in Outline(render_report(data)).words


def test_page_shows_systems_slices_searches_and_facts():
    words = Outline(render_report(sample_report())).words
    for part in (
        *("Final + BM25", "0.671", "name masked", "+0.056", "[+0.037, +0.075]", "not allowed"),
        *("10 that got better", "10 that got worse", "relevant", "not UTF-8"),
        *("18.2 %", "7 min 59 s", "Overlap of test and training: 0 exact, 0 near-duplicate"),
        *("resampled by 37 held-out packages", "5,000 documents", "queries only"),
    ):
        assert part in words, part
    assert words.count("−0.") >= 1


def test_overlap_above_zero_is_marked():
    data = sample_report()
    data = replace(data, corpus=replace(data.corpus, num_overlap_near=2))
    page = render_report(data)
    assert '<p class="overlap dirty">' in page
    assert '<p class="overlap clean">' in render_report(sample_report())


def test_empty_parts_leave_no_heading_behind():
    data = sample_report()
    bare = ReportData(
        name=data.name,
        corpus_name=data.corpus_name,
        made_at=data.made_at,
        version=data.version,
        headline=data.headline,
        systems=data.systems,
        corpus=data.corpus,
    )
    outline = Outline(render_report(bare))
    targets = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert targets == ["systems", "corpus"]
    assert outline.open == []


def test_every_drawing_has_a_name():
    outline = Outline(render_report(sample_report()))
    names = [attrs.get("aria-label") for tag, attrs in outline.tags if tag == "svg"]
    assert len(names) == 6
    assert all(names)
    assert "Loss on docstring-code: from" in str(names)


def test_page_stays_small_however_long_the_run():
    long_curve = LossCurve(source="x", points=[(i, 1.0 + i % 7) for i in range(200_000)])
    assert len(render_report(replace(sample_report(), losses=[long_curve]))) < 300_000


def test_the_same_data_gives_the_same_page():
    assert render_report(sample_report()) == render_report(sample_report())


def test_error_names_the_number_that_is_not_finite():
    data = sample_report()
    broken = replace(data, slices=[replace(data.slices[0], base=Interval(math.nan, 0, 1))])
    with pytest.raises(ConfigError, match=r"report.slices\[0\].base.mean must be finite, got nan"):
        render_report(broken)
    with pytest.raises(ConfigError, match="a report needs at least one system"):
        render_report(replace(data, systems=[]))


def test_separation_is_the_area_under_roc():
    chance = random.Random(1)
    right = [round(chance.gauss(0.5, 0.2), 1) for _ in range(60)]
    other = [round(chance.gauss(0.2, 0.2), 1) for _ in range(50)]
    pairs = [(a, b) for a in right for b in other]
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    histogram = similarity_histogram("x", right, other)
    assert histogram.separation == pytest.approx(expected, abs=1e-12)
    assert (sum(histogram.positive), sum(histogram.random)) == (60, 50)


def test_similarities_that_cannot_be_counted_are_refused():
    with pytest.raises(ConfigError, match="needs right pairs and random pairs"):
        similarity_histogram("x", [], [0.1])
    with pytest.raises(ConfigError, match="similarities must be finite"):
        similarity_histogram("x", [math.inf], [0.1])


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.376, 0.71], (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
        ([0, 300], (0, 100, 200, 300)),
        ([0.5, 0.5], (0.0, 0.5, 1.0)),
    ],
)
def test_axes_have_round_ends_and_hold_every_value(values, ticks):
    axis = Axis.around(values, num_ticks=4)
    assert axis.ticks == pytest.approx(ticks)
    assert axis.low <= min(values) <= max(values) <= axis.high


@pytest.mark.parametrize(
    ("text", "value", "decimals", "signed"),
    [
        ("+0.076", 0.0761, 3, True),
        ("−0.020", -0.02, 3, True),
        ("0.000", -0.0001, 3, True),
        ("5,000", 5000, 0, False),
        ("0", 0, 0, False),
    ],
)
def test_numbers_read_as_people_print_them(text, value, decimals, signed):
    assert number(value, decimals, signed=signed) == text


def test_durations_and_ranks_read_as_people_say_them():
    assert [duration(s) for s in (0.42, 48.2, 372, 7500)] == [
        *("0.4 s", "48 s", "6 min 12 s", "2 h 05 min")
    ]
    search = SearchExample(query="q", rank_before=None, rank_after=3, before=[], after=[])
    assert change(search) == "below 100 → 3"
    assert change(replace(search, rank_before=14)) == "rank 14 → 3"
    assert change(replace(search, rank_before=14, rank_after=None)) == "rank 14 → below 100"


def test_snippets_say_where_they_stop():
    assert snippet("a\nb") == "a\nb"
    assert snippet("\n".join("abcdefghijkl")) == "a\nb\nc\nd\ne\nf\ng\nh\ni …"
    assert len(snippet("x" * 5000)) < 720


def test_a_stage_of_one_step_is_drawn_as_a_point():
    curve = LossCurve(source="x", points=[(1, 2.0), (2, 1.0), (3, 3.0)])
    data = replace(sample_report(), losses=[curve], stage_starts=[("one", 1), ("two", 3)])
    page = render_report(data)
    assert page.count('<circle class="point"') == 1
    assert page.count('class="smooth"') == 1
    assert page.count('class="stage-name end"') == 1
