"""A mixture keeps its promises at every step: shares, epochs, no text twice, resume, ranks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from opengte.contracts import BatchSource
from opengte.data.mixture import (
    LengthBucket,
    Mixture,
    MixtureConfig,
    PromptsConfig,
    Source,
    mixing_shares,
)
from opengte.errors import ConfigError, DataError
from opengte.records import Batch, Pair

# GTE's 33 sources: pairs in millions and p_i in percent at alpha = 0.5 (Li et al. 2023, table 1,
# split by dataset with mGTE's table 9).
GTE_SOURCES = [
    (139.94, 11.12), (3.94, 1.87), (2.89, 1.60), (41.77, 6.08), (2.26, 1.41), (0.2, 0.42),
    (0.2, 0.42), (0.13, 0.34), (51.03, 6.72), (30.58, 5.20), (19.48, 4.15), (4.51, 2.00),
    (199.82, 13.29), (124.89, 10.51), (33.17, 5.42), (4.64, 2.03), (4.74, 2.05), (3.0, 1.63),
    (1.2, 1.03), (1.1, 0.99), (0.68, 0.78), (0.66, 0.76), (0.13, 0.34), (1.15, 1.01),
    (0.62, 0.74), (0.59, 0.72), (0.31, 0.52), (0.3, 0.52), (18.01, 3.99), (2.0, 1.33),
    (87.86, 8.81), (3.01, 1.63), (0.38, 0.58),
]  # fmt: skip


def source(name: str, size: int, **facts: object) -> Source:
    pairs = [Pair(f"{name} asks {i}", f"{name} answers {i}") for i in range(size)]
    return Source.from_pairs(name, pairs, **facts)


def with_repeats(name: str, size: int, distinct: int, **facts: object) -> Source:
    """Queries and positives from a small set of texts, shared by all such sources."""
    rng = np.random.default_rng(size)
    texts = rng.integers(0, distinct, (size, 2))
    pairs = [
        Pair(f"text {a}", f"{'Text' if i % 3 else 'other'} {b} ") for i, (a, b) in enumerate(texts)
    ]
    return Source.from_pairs(name, pairs, **facts)


def same(a: Batch, b: Batch) -> bool:
    texts = ("step", "source", "queries", "positives", "negatives", "row_sources", "num_skipped")
    return all(list_of(getattr(a, n)) == list_of(getattr(b, n)) for n in texts) and (
        a.row_ids.tolist() == b.row_ids.tolist()
    )


def list_of(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value


def test_shares_of_the_gte_table_are_reproduced() -> None:
    millions, printed = np.array(GTE_SOURCES).T
    shares = mixing_shares(millions * 1e6, alpha=0.5)
    assert np.abs(100 * shares - printed).max() <= 0.01


@pytest.mark.parametrize("alpha", [0, 0.3, 0.5, 1])
def test_frequencies_over_100k_steps_match_the_shares(alpha: float) -> None:
    sizes = {f"s{i:02d}": size for i, size in enumerate([1, 3, 10, 40, 100, 400, 1500, 4000])}
    mixture = Mixture(
        [source(name, size) for name, size in sizes.items()],
        MixtureConfig(batch_size=1, alpha=alpha, seed=11),
    )
    weights = np.array(list(sizes.values()), float) ** alpha
    due = weights / weights.sum()
    steps = mixture._plan.steps.draws(0, 100_000)[0]
    counts = np.bincount(steps, minlength=len(sizes))
    assert np.abs(counts - 100_000 * due).max() < 3
    names = [mixture.group_of(step).name for step in range(200)]
    assert names == [mixture.groups[i].name for i in steps[:200]]
    assert list(mixture.shares.values()) == pytest.approx(due)


MODES = st.sampled_from(["one_source", "one_task", "mixed"])


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    sources = []
    for i in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 120))
        facts = {
            "task": draw(st.sampled_from(["retrieval", "sts"])),
            "symmetric": draw(st.booleans()),
            "in_batch_negatives": draw(st.booleans()),
        }
        if draw(st.booleans()):
            sources.append(source(f"s{i}", size, **facts))
        else:
            sources.append(with_repeats(f"s{i}", size, draw(st.integers(2, 60)), **facts))
    config = MixtureConfig(
        batch_size=draw(st.integers(1, 40)),
        mode=draw(MODES),
        alpha=draw(st.sampled_from([0.0, 0.5, 1.0])),
        merge_below=draw(st.sampled_from([0, 50])),
        repeats=draw(st.sampled_from(["skip", "label"])),
        seed=draw(st.integers(0, 3)),
        length_table=draw(
            st.sampled_from([(), (LengthBucket(max_tokens=2, batch_size=9),
                                  LengthBucket(max_tokens=9, batch_size=4))])
        ),
    )  # fmt: skip
    assume(all(rows is None or len(rows) for rows in (s.usable_rows() for s in sources)))
    return Mixture(sources, config)


@settings(deadline=None, max_examples=60)
@given(mixtures(), st.integers(0, 50), st.integers(1, 8))
def test_slices_of_ranks_partition_the_batch(mixture: Mixture, step: int, ranks: int) -> None:
    batch = mixture.batch(step)
    slices = [batch.slice(rank, ranks) for rank in range(ranks)]
    for name in ("queries", "positives", "negatives", "row_sources"):
        joined = [value for part in slices for value in getattr(part, name)]
        assert joined == list(getattr(batch, name))
    assert np.concatenate([part.row_ids for part in slices]).tolist() == batch.row_ids.tolist()


@settings(deadline=None, max_examples=60)
@given(mixtures(), st.lists(st.integers(0, 10_000_000), min_size=1, max_size=6))
def test_a_step_is_the_same_in_any_order_and_after_resume(
    mixture: Mixture, steps: list[int]
) -> None:
    straight = {step: mixture.batch(step) for step in sorted(steps)}
    resumed = Mixture(mixture.sources[::-1], mixture.config)
    assert resumed.fingerprint == mixture.fingerprint
    for step in steps:
        assert same(resumed.batch(step), straight[step])


@settings(deadline=None, max_examples=60)
@given(mixtures())
def test_each_row_is_used_at_most_once_an_epoch_and_once_unless_counted(mixture: Mixture) -> None:
    used: Counter[tuple[int, int, int]] = Counter()
    skipped: Counter[tuple[int, int, int]] = Counter()
    reached: dict[int, int] = {}
    for step in range(60):
        plan, batch = mixture.plan(step), mixture.batch(step)
        assert batch.num_skipped == (~plan.kept).sum()
        assert batch.row_ids.tolist() == plan.rows[plan.kept].tolist()
        keys = list(
            zip(plan.sources.tolist(), plan.epochs.tolist(), plan.rows.tolist(), strict=True)
        )
        for key, kept in zip(keys, plan.kept.tolist(), strict=True):
            (used if kept else skipped)[key] += 1
            reached[key[0]] = max(reached.get(key[0], 0), key[1])
    assert set(used.values()) <= {1}
    assert not set(used) & set(skipped)
    if mixture.config.length_table:
        return  # the streams of a source go through their epochs each by itself
    for number, epochs in reached.items():
        usable = mixture.sources[number].usable_rows()
        whole = (
            list(range(len(mixture.sources[number].rows))) if usable is None else usable.tolist()
        )
        for epoch in range(epochs):
            met = [row for s, e, row in [*used, *skipped] if (s, e) == (number, epoch)]
            assert sorted(met) == whole


@settings(deadline=None, max_examples=60)
@given(mixtures(), st.integers(0, 1000))
def test_no_text_stands_twice_in_a_batch(mixture: Mixture, step: int) -> None:
    batch = mixture.batch(step)
    queries = [text.strip().lower() for text in batch.queries]
    positives = [text.strip().lower() for text in batch.positives]
    assert not set(queries) & set(positives)
    if mixture.config.repeats == "skip":
        assert len(set(queries)) == len(set(positives)) == len(batch)
    else:
        assert batch.query_labels is not None
        assert batch.positive_labels is not None
        for texts, labels in ((queries, batch.query_labels), (positives, batch.positive_labels)):
            pairs = set(zip(texts, labels.tolist(), strict=True))
            assert len(pairs) == len(set(texts)) == len(set(labels.tolist()))


@settings(deadline=None, max_examples=40)
@given(mixtures(), st.integers(0, 300))
def test_a_batch_is_of_one_kind(mixture: Mixture, step: int) -> None:
    batch = mixture.batch(step)
    by_name = {s.name: s for s in mixture.sources}
    present = [by_name[name] for name in set(batch.row_sources)]
    assert {s.in_batch_negatives for s in present} == {batch.in_batch_negatives}
    if mixture.config.mode != "mixed":
        assert len({s.task for s in present}) == 1
    if mixture.config.mode == "one_source" and not mixture.config.merge_below:
        assert batch.source == batch.row_sources[0]
        assert len(present) == 1
    for name, row, query, positive in zip(
        batch.row_sources, batch.row_ids.tolist(), batch.queries, batch.positives, strict=True
    ):
        pair = next(by_name[name].rows.pairs(np.array([row])))
        texts = (pair.query, pair.positive)
        assert (query, positive) == texts or (
            by_name[name].symmetric and (positive, query) == texts
        )


def test_a_mixture_is_a_batch_source() -> None:
    contract: BatchSource = Mixture([source("a", 5)], MixtureConfig(batch_size=2))
    assert len(contract.batch(0)) == 2


def test_batches_keep_their_size_across_epochs() -> None:
    mixture = Mixture([source("a", 101)], MixtureConfig(batch_size=10))
    batches = [mixture.batch(step) for step in range(40)]
    assert {len(batch) + batch.num_skipped for batch in batches} == {10}
    assert sum(batch.num_skipped for batch in batches) < 5
    assert batches[0].epoch == 0
    assert batches[-1].epoch == pytest.approx(390 / 101)


def test_a_source_smaller_than_a_batch_gives_all_it_has() -> None:
    batch = Mixture([source("a", 7)], MixtureConfig(batch_size=64)).batch(3)
    assert sorted(batch.row_ids.tolist()) == list(range(7))


def test_mixed_batches_hold_the_shares_of_the_sources() -> None:
    sources = [source("big", 9000), source("small", 1000)]
    mixture = Mixture(sources, MixtureConfig(batch_size=100, mode="mixed", alpha=0.5))
    names = Counter(name for step in range(20) for name in mixture.batch(step).row_sources)
    assert names["big"] / names.total() == pytest.approx(0.75, abs=0.01)
    assert all(0 < mixture.batch(s).row_sources.count("small") < 60 for s in range(5))


def test_small_sources_are_merged_and_weighed_as_one() -> None:
    sources = [source("big", 900), *(source(f"small{i}", 20 + i) for i in range(5))]
    mixture = Mixture(sources, MixtureConfig(batch_size=50, merge_below=100, alpha=0.5))
    merged = 110**0.5 / (110**0.5 + 30)
    assert {group.name: group.share for group in mixture.groups} == pytest.approx(
        {"big": 1 - merged, "small: retrieval": merged}
    )
    names = {name for step in range(30) for name in mixture.batch(step).row_sources}
    assert names == {s.name for s in sources}
    assert sum(mixture.shares.values()) == pytest.approx(1)


def test_ordered_mixtures_go_task_by_task() -> None:
    sources = [source("a", 100, task="sts"), source("b", 300, task="nli")]
    config = MixtureConfig(batch_size=5, mode="ordered", order=("nli", "sts"), num_steps=8, alpha=1)
    mixture = Mixture(sources, config)
    assert [mixture.batch(step).source for step in range(8)] == ["b"] * 6 + ["a"] * 2


def test_weights_replace_alpha_and_caps_bound_it() -> None:
    sources = [source("a", 400), source("b", 100)]

    def shares(**options: object) -> list[float]:
        return list(Mixture(sources, MixtureConfig(batch_size=4, **options)).shares.values())  # type: ignore[arg-type]

    assert shares(weights={"a": 1, "b": 3}) == pytest.approx([0.25, 0.75])
    assert shares(alpha=1.0, max_rows=100) == pytest.approx([0.5, 0.5])
    assert shares(alpha=1.0, max_share=0.6) == pytest.approx([0.6, 0.4])
    doubled = [sources[0], replace(sources[1], weight=2.0)]
    mixture = Mixture(doubled, MixtureConfig(batch_size=4, alpha=0.5))
    assert list(mixture.shares.values()) == pytest.approx([0.5, 0.5])


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=12),
    st.floats(0, 1),
    st.floats(0.05, 1),
)
def test_capped_shares_sum_to_one_and_keep_their_order(
    sizes: list[int], alpha: float, cap: float
) -> None:
    assume(not 0.999 < cap * len(sizes) < 1)  # where rounding decides
    if cap * len(sizes) < 1:
        with pytest.raises(ConfigError, match="is less than 1; raise max_share"):
            mixing_shares(sizes, alpha=alpha, max_share=cap)
        return
    free = mixing_shares(sizes, alpha=alpha)
    shares = mixing_shares(sizes, alpha=alpha, max_share=cap)
    assert shares.sum() == pytest.approx(1)
    assert shares.max() <= cap * (1 + 1e-9)
    order = np.argsort(free, kind="stable")
    assert (np.diff(shares[order]) >= -1e-12).all()


def test_sides_change_places_in_half_the_rows_and_back_in_the_next_epoch() -> None:
    mixture = Mixture([source("a", 1000, symmetric=True)], MixtureConfig(batch_size=1000))
    first, second = (
        {row: "asks" in query for row, query in zip(b.row_ids.tolist(), b.queries, strict=True)}
        for b in (mixture.batch(0), mixture.batch(1))
    )
    assert 400 < sum(first.values()) < 600
    assert all(first[row] != second[row] for row in range(1000))
    straight = Mixture(mixture.sources, replace(mixture.config, flip_symmetric=False))
    assert all("asks" in query for query in straight.batch(0).queries)


def test_rows_that_do_not_match_stay_out_of_contrastive_batches() -> None:
    scores = [0.0, 0.2, None, 1.0, 0.0, 0.9]
    pairs = [Pair(f"q{i}", f"d{i}", score=score) for i, score in enumerate(scores)]
    contrastive = Mixture([Source.from_pairs("a", pairs)], MixtureConfig(batch_size=8)).batch(0)
    assert sorted(contrastive.row_ids.tolist()) == [1, 2, 3, 5]
    assert contrastive.scores is None
    strict = Source.from_pairs("a", pairs, min_score=0.9)
    assert sorted(Mixture([strict], MixtureConfig(batch_size=8)).batch(0).row_ids) == [2, 3, 5]
    graded = Mixture([Source.from_pairs("a", pairs, scored=True)], MixtureConfig(batch_size=8))
    batch = graded.batch(0)
    assert batch.scores is not None
    found = dict(zip(batch.row_ids.tolist(), batch.scores.tolist(), strict=True))
    assert found == pytest.approx({0: 0.0, 1: 0.2, 3: 1.0, 4: 0.0, 5: 0.9})


def test_a_balanced_batch_holds_matches_and_graded_rows_and_says_which_is_which() -> None:
    matches = [Pair(f"q{i}", f"d{i}", (f"n{i}",), score=1.0) for i in range(40)]
    graded = [Pair(f"a{i}", f"b{i}", score=i / 40) for i in range(40)]
    sources = [
        Source.from_pairs("matches", matches),
        Source.from_pairs("graded", graded, scored=True, in_batch_negatives=False),
    ]
    mixed = Mixture(sources, MixtureConfig(batch_size=16, mode="mixed"))
    assert all(len(set(mixed.batch(step).row_sources)) == 1 for step in range(8))
    for step in range(8):
        batch = Mixture(sources, MixtureConfig(batch_size=16, mode="balanced")).batch(step)
        assert set(batch.row_sources) == {"matches", "graded"}
        assert batch.scores is not None
        assert not batch.in_batch_negatives
        for name, query, score in zip(batch.row_sources, batch.queries, batch.scores, strict=True):
            if name == "graded":
                assert score == pytest.approx(int(query[1:]) / 40)
            else:
                assert np.isnan(score)


def test_rows_whose_sides_are_one_text_stay_out_of_contrastive_batches_alone() -> None:
    pairs = [Pair(f"q{i}", f" Q{i}" if i % 2 else f"d{i}", score=0.5) for i in range(6)]
    batch = Mixture([Source.from_pairs("a", pairs)], MixtureConfig(batch_size=8)).batch(0)
    assert sorted(batch.row_ids.tolist()) == [0, 2, 4]
    scored = [Source.from_pairs("a", [*pairs, *pairs], scored=True)]
    assert len(Mixture(scored, MixtureConfig(batch_size=12)).batch(0)) == 12
    with pytest.raises(DataError, match="sides that differ"):
        Mixture([Source.from_pairs("a", [pairs[1]])], MixtureConfig())


def test_a_length_table_sets_the_batch_size_by_length() -> None:
    pairs = [Pair(f"q{i}", " ".join(["word"] * (1 + i % 40))) for i in range(800)]
    table = tuple(
        LengthBucket(max_tokens=m, batch_size=b) for m, b in ((10, 32), (20, 16), (40, 8))
    )
    mixture = Mixture(
        [Source.from_pairs("a", pairs)], MixtureConfig(length_table=table, repeats="label")
    )
    sizes: dict[int, set[int]] = {}
    for step in range(100):
        batch = mixture.batch(step)
        longest = max(len(text.split()) for text in batch.positives)
        bucket = next(b for b in table if longest <= b.max_tokens)
        sizes.setdefault(bucket.batch_size, set()).add(len(batch) + batch.num_skipped)
        shorter = [b.max_tokens for b in table if b.max_tokens < bucket.max_tokens]
        assert all(len(text.split()) > max(shorter, default=0) for text in batch.positives)
    assert sizes == {32: {32}, 16: {16}, 8: {8}}


def test_a_bucket_too_small_for_a_batch_moves_to_the_longer_one() -> None:
    pairs = [Pair(f"q{i}", "w " * (2 if i < 3 else 30) + str(i)) for i in range(100)]
    table = (LengthBucket(max_tokens=10, batch_size=32), LengthBucket(max_tokens=99, batch_size=10))
    mixture = Mixture([Source.from_pairs("a", pairs)], MixtureConfig(length_table=table))
    rows = [row for step in range(10) for row in mixture.batch(step).row_ids.tolist()]
    assert sorted(rows) == list(range(100))


def test_negatives_are_a_few_at_a_time_and_others_in_other_epochs() -> None:
    negatives = tuple(f"n{k}" for k in range(6))
    pairs = [Pair(f"q{i}", f"d{i}", negatives=negatives if i else ("only",)) for i in range(8)]
    mixture = Mixture([Source.from_pairs("a", pairs)], MixtureConfig(batch_size=8, max_negatives=2))
    seen: dict[int, list[str]] = {}
    for step in range(3):
        batch = mixture.batch(step)
        for row, negatives_of in zip(batch.row_ids.tolist(), batch.negatives, strict=True):
            seen.setdefault(row, []).extend(negatives_of)
    assert seen.pop(0) == ["only"] * 3
    assert all(sorted(each) == list(negatives) for each in seen.values())
    whole = Mixture(mixture.sources, MixtureConfig(batch_size=8))
    assert {len(each) for each in whole.batch(0).negatives} == {1, 6}
    none = Mixture(mixture.sources, MixtureConfig(batch_size=8, max_negatives=0))
    assert set(none.batch(0).negatives) == {()}


def test_prompts_stand_in_front_and_their_span_is_known() -> None:
    pairs = [Pair(f"a{i}", f"b{i}", negatives=(f"c{i}",)) for i in range(4)]
    sources = [
        Source.from_pairs("web", pairs),
        Source.from_pairs("sts", pairs, task="sts", query_prompt="own: "),
        Source.from_pairs("qa", pairs, task="qa"),
    ]
    prompts = PromptsConfig(
        query="query: ",
        document="passage: ",
        query_by_task={"qa": "Answer: "},
        document_by_source={"sts": ""},
    )
    mixture = Mixture(sources, MixtureConfig(batch_size=4, prompts=prompts, alpha=0))
    expected = {
        "web": ("query: ", "passage: "),
        "sts": ("own: ", ""),
        "qa": ("Answer: ", "passage: "),
    }
    for step in range(9):
        batch = mixture.batch(step)
        query, document = expected[batch.source]
        assert batch.query_prompt_characters == len(query)
        assert batch.document_prompt_characters == len(document)
        for row, asked, answered, negatives in zip(
            batch.row_ids.tolist(), batch.queries, batch.positives, batch.negatives, strict=True
        ):
            assert asked == f"{query}a{row}"
            assert answered == f"{document}b{row}"
            assert negatives == (f"{document}c{row}",)
    mixed = Mixture(sources, replace(mixture.config, mode="mixed")).batch(0)
    spans = [len(expected[name][0]) for name in mixed.row_sources]
    assert mixed.query_prompt_characters == spans


def test_fingerprint_tells_content_settings_and_seed_apart() -> None:
    def fingerprint(size: int = 10, **options: object) -> str:
        return Mixture([source("a", size)], MixtureConfig(**options)).fingerprint  # type: ignore[arg-type]

    prints = [fingerprint(), fingerprint(size=11), fingerprint(seed=1), fingerprint(batch_size=4)]
    assert len(set(prints)) == 4
    assert fingerprint() == prints[0]


def test_order_of_two_seeds_differs() -> None:
    orders = [
        Mixture([source("a", 100)], MixtureConfig(batch_size=50, seed=seed))
        .batch(0)
        .row_ids.tolist()
        for seed in (0, 1)
    ]
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "a mixture needs at least one source"),
        ([("a", 3), ("a", 4)], "different names; 'a' stands twice"),
        ([("a", 3), ("b", 0)], "source 'b' is empty"),
    ],
)
def test_sources_that_cannot_be_mixed_are_refused(
    sources: list[tuple[str, int]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Mixture([source(*each) for each in sources], MixtureConfig())


def test_a_source_without_matching_rows_is_refused() -> None:
    pairs = [Pair("q", "d", score=0.0)]
    with pytest.raises(
        DataError, match=r"'a' has no rows that match \(score > 0, sides that differ\)"
    ):
        Mixture([Source.from_pairs("a", pairs)], MixtureConfig())
    with pytest.raises(DataError, match="'a' is to be used with its scores, but no row has one"):
        source("a", 3, scored=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"alpha": -0.1}, r"alpha must lie in \[0, 10\], got -0.1"),
        ({"max_rows": 0}, "max_rows must be >= 1, got 0"),
        ({"max_share": 0.0}, r"max_share must lie in \(0, 1\], got 0.0"),
        ({"max_negatives": -1}, "max_negatives must be >= 0, got -1"),
        ({"merge_below": -1}, "merge_below must be >= 0, got -1"),
        ({"mode": "ordered"}, r"needs order \(names of tasks\) and num_steps"),
        ({"order": ("a",)}, "order is for the ordered mode alone, got mode 'one_source'"),
        ({"weights": {"a": -1.0}}, "weights: 'a' must be finite and >= 0, got -1.0"),
        ({"weights": {"b": 1.0}}, r"missing: \['a'\], unknown: \['b'\]"),
        ({"weights": {"a": 0.0}}, "every source has weight 0"),
        (
            {"mode": "ordered", "order": ("x",), "num_steps": 9},
            r"order must name each task once, \['retrieval'\]; got \('x',\)",
        ),
        (
            {"prompts": PromptsConfig(query_by_task={"x": "y"})},
            "query_by_task: no task 'x'; there are: retrieval",
        ),
        (
            {"length_table": (LengthBucket(max_tokens=5, batch_size=1),) * 2},
            r"length_table must grow in max_tokens, got \[5, 5\]",
        ),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mixture([source("a", 3)], MixtureConfig(**options))  # type: ignore[arg-type]


def test_impossible_sources_and_buckets_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_tokens and batch_size of a length bucket must be"):
        LengthBucket(max_tokens=0, batch_size=1)
    with pytest.raises(ConfigError, match="source 'a': weight must be >= 0, got nan"):
        source("a", 3, weight=float("nan"))
    with pytest.raises(ConfigError, match=r"source 'a': min_score must lie in \[0, 1\], got 2"):
        source("a", 3, min_score=2)
    with pytest.raises(DataError, match="step must be >= 0, got -1"):
        Mixture([source("a", 3)], MixtureConfig()).batch(-1)
