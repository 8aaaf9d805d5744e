"""Comparing systems, ranking models, marking what was trained on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from opengte.errors import ConfigError, DataError
from opengte.evaluation import evaluate
from opengte.evaluation.comparison import compare_systems
from opengte.evaluation.leaderboard import build_leaderboard, leaderboard_json, leaderboard_lines
from opengte.evaluation.marks import mark_task
from opengte.evaluation.published_scores import (
    benchmark_tasks,
    compare_with_published,
    published_name,
    published_scores,
)
from opengte.evaluation.results import (
    EvaluationRun,
    Item,
    TaskResult,
    find_runs,
    read_run,
    write_results,
)
from opengte.evaluation.tasks import ClassificationTask, RetrievalTask, StsTask
from opengte.evaluation.training_manifest import TrainingManifest
from opengte.metrics.correlation import spearman
from opengte.records import Document, Pair, Query
from opengte.runtime.hashed import HashEncoder


def result(name="t", values=None, score=0.5, groups=None, **facts):
    values = values or {}
    score = float(np.mean(list(values.values()))) if values else score
    settings = {"type": "retrieval", "split": "test", "main_metric": "ndcg@10", "num_items": 10}
    settings |= facts
    main = settings["main_metric"]
    return TaskResult(
        name=name,
        main_score=score,
        ci95=(score, score),
        metrics={main: score},
        per_query={main: values} if values else {},
        items={key: Item(group=group) for key, group in (groups or {}).items()},
        **settings,
    )


def run(model, *results, **facts):
    return EvaluationRun(model=model, results={r.key: r for r in results}, **facts)


def values_of(rng, shift=0.0, size=80):
    return {f"q{n}": float(v) for n, v in enumerate(rng.random(size) * 0.5 + shift)}


def test_better_system_wins_with_interval_p_value_and_counts():
    rng = np.random.default_rng(0)
    base = values_of(rng)
    better = {key: value + 0.05 * (n % 4 != 0) for n, (key, value) in enumerate(base.items())}
    (found,) = compare_systems([run("a", result(values=better))], [run("b", result(values=base))])
    assert found.difference.mean == pytest.approx(found.a - found.b) == pytest.approx(0.0375)
    assert found.difference.excludes(0.0)
    assert (found.wins, found.losses, found.ties) == (60, 0, 20)
    assert found.p_value < 0.001
    assert found.difference.scope == "queries only"


def test_groups_of_queries_are_drawn_as_a_whole():
    rng = np.random.default_rng(1)
    effects = rng.normal(0, 0.1, 8).repeat(10)
    base = values_of(rng)
    other = {key: v + e for (key, v), e in zip(base.items(), effects, strict=True)}
    groups = {key: f"package {n // 10}" for n, key in enumerate(base)}
    a = run("a", result(values=other, groups=groups))
    grouped = compare_systems([a], [run("b", result(values=base))])[0].difference
    alone = compare_systems([run("a", result(values=other))], [run("b", result(values=base))])[
        0
    ].difference
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_several_seeds_are_drawn_too():
    rng = np.random.default_rng(2)
    base = [run("b", result(values=values_of(rng)), seed=s) for s in range(3)]
    shifts = (0.0, 0.1, 0.2)
    other = [
        run("a", result(values={k: v + s for k, v in b.results["t"].per_query["ndcg@10"].items()}))
        for b, s in zip(base, shifts, strict=True)
    ]
    (found,) = compare_systems(other, base)
    assert found.num_seeds == 3
    assert found.difference.scope == "queries and seeds"
    assert found.difference.low < 0.05
    assert found.difference.high > 0.15


def test_correlations_are_compared_on_the_same_resampled_pairs():
    rng = np.random.default_rng(3)
    gold = rng.random(120)

    def sts(noise):
        cosine = gold + noise * rng.normal(size=120)
        per_query = {
            "cosine": {str(n): float(v) for n, v in enumerate(cosine)},
            "gold": {str(n): float(v) for n, v in enumerate(gold)},
        }
        made = result(score=spearman(cosine, gold), type="sts", main_metric="cosine_spearman")
        return replace(made, per_query=per_query)

    good, bad = sts(0.2), sts(0.6)
    (found,) = compare_systems([run("a", good)], [run("b", bad)])
    assert found.metric == "cosine_spearman"
    assert found.difference.mean == pytest.approx(good.main_score - bad.main_score)
    assert found.difference.low > 0
    assert found.p_value < 0.01


def test_holm_adjusts_over_the_tasks():
    rng = np.random.default_rng(4)
    names = [f"t{n}" for n in range(5)]
    base = {name: values_of(rng) for name in names}
    shifted = {name: {k: v + 0.02 * rng.normal() for k, v in base[name].items()} for name in names}
    found = compare_systems(
        [run("a", *(result(name, shifted[name]) for name in names))],
        [run("b", *(result(name, base[name]) for name in names))],
    )
    smallest = min(found, key=lambda c: c.p_value)
    assert smallest.p_holm == pytest.approx(min(1.0, 5 * smallest.p_value))
    assert all(c.p_holm >= c.p_value for c in found)


def test_systems_that_cannot_be_paired_are_refused():
    rng = np.random.default_rng(5)
    a, b = result(values=values_of(rng)), result(values=values_of(rng, size=81))
    with pytest.raises(DataError, match="results of 't' were measured on different queries"):
        compare_systems([run("a", a)], [run("b", b)])
    with pytest.raises(DataError, match=r"do not measure the same: .* dev .* against .* test"):
        compare_systems([run("a", a)], [run("b", replace(a, split="dev"))])
    with pytest.raises(DataError, match="as many runs of each system; got 1 and 2"):
        compare_systems([run("a", a)], [run("b", a), run("b", a)])
    with pytest.raises(DataError, match="no task with values of single items in common"):
        compare_systems([run("a", a)], [run("b", result("other", values_of(rng)))])


def test_runs_merge_from_files_and_folders(tmp_path):
    write_results(tmp_path / "one", "m1", [result(values={"q": 0.5})], seed=3, benchmark="BEIR")
    write_results(tmp_path / "two.json", "m2", [result()])
    runs = find_runs([tmp_path, tmp_path / "one", tmp_path / "two.json"])
    assert sorted(found.model for found in runs) == ["m1", "m2"]
    back = read_run(tmp_path / "one")
    assert (back.seed, back.benchmark) == (3, "BEIR")
    with pytest.raises(DataError, match=r"no results.json here; write one with: gte evaluate"):
        (tmp_path / "empty").mkdir()
        find_runs([tmp_path / "empty"])


def board_runs():
    return [
        run(
            "a", result("x", score=0.9), result("y", score=0.1), result("s", score=0.5, type="sts")
        ),
        run(
            "b", result("x", score=0.5), result("y", score=0.6), result("s", score=0.5, type="sts")
        ),
        run(
            "c", result("x", score=0.1), result("y", score=0.2), result("s", score=0.3, type="sts")
        ),
    ]


def test_leaderboard_has_means_by_task_and_kind_and_borda():
    board = build_leaderboard(board_runs())
    assert [row.model for row in board.rows] == ["b", "a", "c"]
    b, a, c = board.rows
    assert b.mean_task == pytest.approx((0.5 + 0.6 + 0.5) / 3)
    assert b.mean_type == pytest.approx((0.55 + 0.5) / 2)
    assert a.borda == 2 + 0 + 1.5
    assert c.borda == 0 + 1 + 0
    assert board.counted == ["x", "y", "s"]
    lines = leaderboard_lines(board)
    assert lines[1].startswith("b ")
    assert "means over 3 of 3 tasks" in lines[-1]
    json.dumps(leaderboard_json(board))


def test_means_leave_out_tasks_that_a_model_was_trained_on_for_all_models():
    runs = board_runs()
    runs[0].results["x"] = replace(runs[0].results["x"], mark="leaked")
    runs[1].results["s"] = replace(runs[1].results["s"], mark="zero-shot")
    board = build_leaderboard(runs)
    assert board.counted == ["y", "s"]
    shares = {row.model: row.zero_shot_share for row in board.rows}
    assert shares == {"a": 0.0, "b": 1.0, "c": None}
    assert "0.9000!" in "\n".join(leaderboard_lines(board))


def test_task_that_a_model_lacks_is_in_no_mean():
    runs = board_runs()
    del runs[2].results["y"]
    board = build_leaderboard(runs)
    assert board.counted == ["x", "s"]
    assert "y" not in next(row for row in board.rows if row.model == "c").cells


def test_seeds_of_a_model_are_one_row():
    runs = [run("a", result("x", score=score), seed=n) for n, score in enumerate((0.2, 0.4))]
    (row,) = build_leaderboard(runs).rows
    assert row.cells["x"].score == pytest.approx(0.3)
    assert row.cells["x"].num_seeds == 2


def test_results_that_measure_different_things_are_different_columns():
    runs = [run("a", result("x", score=0.2)), run("b", result("x", score=0.4, num_items=7))]
    board = build_leaderboard(runs)
    assert list(board.tasks) == ["x", "x (items 7)"]
    assert board.counted == []
    assert [row.mean_task for row in board.rows] == [None, None]


def test_retrievers_are_rows_of_their_own():
    results = [
        result("x", score=s, retriever=r)
        for r, s in (("dense", 0.5), ("bm25", 0.4), ("hybrid", 0.6))
    ]
    board = build_leaderboard([run("a", *results)])
    assert [row.model for row in board.rows] == ["a + bm25", "a", "bm25"]


def test_versions_of_a_benchmark_are_never_mixed():
    runs = [
        run("a", result("SciFact", origin="mteb"), benchmark="MTEB(eng, v1)"),
        run("b", result("SciFact", origin="mteb"), benchmark="MTEB(eng, v2)"),
    ]
    with pytest.raises(ConfigError, match=r"'MTEB\(eng, v1\)' and 'MTEB\(eng, v2\)' cannot be"):
        build_leaderboard(runs)
    with pytest.raises(ConfigError, match=r"belongs to 'MTEB\(eng, v1\)', not to 'MTEB"):
        build_leaderboard(runs, benchmark="MTEB(eng, v2)")
    board = build_leaderboard(runs[:1])
    assert not board.complete
    assert "not a score of MTEB(eng, v1)" in leaderboard_lines(board)[-1]
    with pytest.raises(ConfigError, match="unknown benchmark 'MTEB'; known are"):
        build_leaderboard(runs[:1], benchmark="MTEB")
    with pytest.raises(DataError, match="no results to rank"):
        build_leaderboard([])


def scifact(score=0.6451, **facts):
    return result("scifact", score=score, **{"num_items": 300, **facts})


def test_published_rows_join_where_tasks_are_the_same():
    board = build_leaderboard([run("mine", scifact(0.7))], published_models=["thenlper/gte-small"])
    assert [row.model for row in board.rows] == ["thenlper/gte-small", "mine"]
    assert board.rows[0].cells["scifact"].published
    with pytest.raises(ConfigError, match="no published score of 'nobody/none' fits"):
        build_leaderboard([run("mine", scifact())], published_models=["nobody/none"])


def test_published_tables_hold_what_the_papers_and_the_repository_say():
    scores = {(s.model, s.task, s.benchmark): s for s in published_scores()}
    minilm = "sentence-transformers/all-MiniLM-L6-v2"
    for task, value in {
        "SciFact": 0.6451,
        "STSBenchmark": 0.8203,
        "STS13": 0.8060,
        "STS14": 0.7559,
        "STS15": 0.8539,
        "Banking77Classification": 0.8004,
    }.items():
        assert scores[minilm, task, "MTEB(eng, v1)"].score == value
    afqmc = scores[minilm, "AFQMC", "MTEB(cmn, v1)"]
    assert (afqmc.score, afqmc.on_dev) == (0.0859, True)
    assert scores["thenlper/gte-small", "SciFact", "MTEB(eng, v1)"].by_authors
    assert all(0 < s.score < 1 and s.source for s in published_scores())
    english = {s.task for s in published_scores() if s.benchmark == "MTEB(eng, v1)"}
    assert english == set(benchmark_tasks("MTEB(eng, v1)"))


def test_published_mean_of_retrieval_is_the_one_that_is_printed():
    scores = [
        s.score
        for s in published_scores()
        if s.model == "sentence-transformers/all-MiniLM-L6-v2"
        and s.type == "retrieval"
        and s.benchmark == "MTEB(eng, v1)"
    ]
    assert len(scores) == 15
    assert np.mean(scores) == pytest.approx(0.4195, abs=1e-4)


def test_comparison_with_published_scores_needs_the_same_split_and_size():
    rows = compare_with_published(
        [scifact(0.65)], models=["sentence-transformers/all-MiniLM-L6-v2"]
    )
    (row,) = rows
    assert row.difference == pytest.approx(0.0049)
    assert row.published.score == 0.6451
    assert published_name(scifact(split="dev")) is None
    assert published_name(scifact(num_items=299)) is None
    assert published_name(result("STS12", num_items=2358)) is None
    nfcorpus = result("nfcorpus", num_items=323, corpus_size=3395)
    assert published_name(nfcorpus) is None
    assert published_name(replace(nfcorpus, corpus_size=3633)) == "NFCorpus"
    assert compare_with_published([scifact(retriever="bm25")]) == []
    assert len(compare_with_published([scifact(retriever="dense")])) > 10


LONG = "Which proteins bind the membrane of a yeast cell"
OTHER = "A completely different sentence about the weather"


def retrieval_task():
    return RetrievalTask(
        name="scifoo",
        corpus=[
            Document(id="1", text=f"{LONG}: answer one"),
            Document(id="2", text=f"{OTHER} two"),
        ],
        queries=[Query(id="q", text=LONG)],
        qrels={"q": {"1": 1}},
    )


@pytest.mark.parametrize(
    ("pairs", "datasets", "mark"),
    [
        ([Pair("unrelated", "words")], (), "zero-shot"),
        ([Pair(LONG.upper() + "?!", "words")], (), "leaked"),
        ([Pair("words", "x", negatives=(LONG,))], (), "leaked"),
        ([Pair(f"{LONG}: answer one", LONG)], (), "leaked"),
        ([Pair("words", f"{OTHER} two")], (), "in-domain train"),
        ([Pair("words", "x")], ("SciFoo-train",), "in-domain train"),
        ([Pair("words", "x")], ("other-train",), "zero-shot"),
    ],
)
def test_mark_follows_what_was_trained_on(tmp_path, pairs, datasets, mark):
    manifest = TrainingManifest.from_pairs(pairs, datasets=datasets)
    assert mark_task(retrieval_task(), manifest)[0] == mark
    manifest.save(tmp_path)
    again = TrainingManifest.load(tmp_path)
    assert mark_task(retrieval_task(), again) == mark_task(retrieval_task(), manifest)


def test_short_texts_are_not_leaks_but_short_pairs_are():
    task = StsTask(name="s", sentences1=["a cat"], sentences2=["the dog"], scores=[1.0])
    assert mark_task(task, TrainingManifest.from_pairs([Pair("a cat", "a mat")]))[0] == "zero-shot"
    manifest = TrainingManifest.from_pairs([Pair("The dog!", "A cat")])
    assert mark_task(task, manifest) == ("leaked", {"scored pairs in the training data": 1})


def test_trained_on_the_train_split_is_in_domain():
    task = ClassificationTask(
        name="c", train_texts=[LONG], train_labels=["x"], texts=["short"], labels=["x"]
    )
    mark, reasons = mark_task(task, TrainingManifest.from_pairs([Pair(LONG, "label x")]))
    assert mark == "in-domain train"
    assert reasons == {"background texts in the training data": 1}


def test_damaged_manifest_is_refused(tmp_path):
    TrainingManifest.from_pairs([Pair("a", "b")]).save(tmp_path)
    (tmp_path / "training_texts.npy").write_bytes(b"x")
    with pytest.raises(DataError, match=r"training_texts.npy: this training manifest"):
        TrainingManifest.load(tmp_path)


def test_real_results_compare_end_to_end(tmp_path):
    task = retrieval_task()
    for size in (8, 64):
        found = evaluate(HashEncoder(size), task)
        write_results(tmp_path / str(size), f"hash-{size}", [found])
    small, large = find_runs([tmp_path])
    board = build_leaderboard([small, large])
    assert len(board.rows) == 2
    (compared,) = compare_systems([large], [small])
    assert compared.wins + compared.losses + compared.ties == 1
