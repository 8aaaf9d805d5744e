from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from opengte.contracts import StepContext, TrainingCallback
from opengte.errors import ConfigError
from opengte.evaluation import evaluate
from opengte.evaluation.during_training import LightSuite, LightSuiteConfig, ShardedEncoder
from opengte.evaluation.light_tasks import lighten
from opengte.evaluation.results import read_run
from opengte.evaluation.tasks import (
    ClassificationTask,
    ClusteringTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    SummarisationTask,
    Task,
)
from opengte.records import Document, Query
from opengte.runtime.hashed import HashEncoder

TEXTS = [
    f"{'long ' * (n % 7)}text number {n} about {'tea' if n % 2 else 'rain'}" for n in range(60)
]


class CountingEncoder(HashEncoder):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.seen = []

    def embed(self, texts, **options):
        self.seen += list(texts)
        return super().embed(texts, **options)


def retrieval():
    return RetrievalTask(
        name="find",
        corpus=[Document(id=str(n), text=text) for n, text in enumerate(TEXTS)],
        queries=[Query(id=f"q{n}", text=f"number {n}") for n in range(0, 60, 5)],
        qrels={f"q{n}": {str(n): 1} for n in range(0, 60, 5)},
    )


def sts():
    return StsTask(
        name="alike",
        sentences1=TEXTS[:30],
        sentences2=TEXTS[30:],
        scores=[float(n % 5) for n in range(30)],
    )


def context(folder, step, encoder, *, rank=0, world_size=1, barrier=lambda: None, num_steps=10):
    return StepContext(
        step=step,
        num_steps=num_steps,
        loss=1.0,
        rank=rank,
        world_size=world_size,
        run_folder=folder,
        encoder=encoder,
        barrier=barrier,
        batch=None,
    )


def test_measures_at_the_first_every_kth_and_last_step(tmp_path):
    suite: TrainingCallback = LightSuite([retrieval(), sts()], every_steps=4)
    measured = [
        step
        for step in range(1, 11)
        if suite.on_step(context(tmp_path, step, HashEncoder(32))) is not None
    ]
    assert measured == [1, 4, 8, 10]
    quiet = LightSuite([sts()], every_steps=4, at_start=False)
    assert quiet.on_step(context(tmp_path, 1, HashEncoder(32))) is None


def test_numbers_are_those_of_evaluate_and_are_kept(tmp_path):
    encoder = HashEncoder(32)
    suite = LightSuite([retrieval(), sts()], every_steps=2)
    numbers = suite.on_step(context(tmp_path, 2, encoder))
    expected = {task.name: evaluate(encoder, task).main_score for task in (retrieval(), sts())}
    assert numbers["eval/find"] == expected["find"]
    assert numbers["eval/alike"] == expected["alike"]
    assert numbers["eval/mean"] == pytest.approx(np.mean(list(expected.values())))
    run = read_run(tmp_path / "evaluation" / "step-00000002")
    assert run.results["find"].main_score == expected["find"]


def ranks(folder, suites, encoders, world_size, step=2):
    barrier = threading.Barrier(world_size, timeout=20)
    with ThreadPoolExecutor(world_size) as pool:
        futures = [
            pool.submit(
                suites[rank].on_step,
                context(
                    folder,
                    step,
                    encoders[rank],
                    rank=rank,
                    world_size=world_size,
                    barrier=barrier.wait,
                ),
            )
            for rank in range(world_size)
        ]
        return [future.result(timeout=60) for future in futures]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_work_and_agree_with_one(tmp_path, world_size):
    tasks = [retrieval(), sts()]
    alone = LightSuite(tasks).on_step(context(tmp_path / "one", 10, HashEncoder(32)))
    encoders = [CountingEncoder(32) for _ in range(world_size)]
    suites = [LightSuite(tasks, every_steps=2) for _ in range(world_size)]
    found = ranks(tmp_path / "many", suites, encoders, world_size)
    assert all(numbers == alone for numbers in found)
    counts = [len(encoder.seen) for encoder in encoders]
    total = len(set(TEXTS)) + 12 + 30 + 30
    assert sum(counts) == total
    assert max(counts) - min(counts) <= 4
    folder = tmp_path / "many" / "evaluation" / "step-00000002"
    assert not (folder / "parts").exists()
    assert (folder / "results.json").exists()


def test_interrupted_evaluation_reuses_finished_parts(tmp_path):
    texts = TEXTS[:20]
    first, second, other = (CountingEncoder(16) for _ in range(3))
    for rank, encoder in ((0, first), (1, second)):
        sharded = ShardedEncoder(encoder, tmp_path, rank=rank, world_size=2, barrier=lambda: None)
        if rank == 0:
            with pytest.raises(FileNotFoundError):
                sharded.embed(texts)
        else:
            both = sharded.embed(texts)
    again = ShardedEncoder(other, tmp_path, rank=0, world_size=2, barrier=lambda: None)
    np.testing.assert_array_equal(again.encode(texts), both.vectors)
    assert other.seen == []
    np.testing.assert_array_equal(both.vectors, HashEncoder(16).encode(texts))


def test_history_survives_a_checkpoint_and_names_the_best_step(tmp_path):
    suite = LightSuite([sts()], every_steps=1)
    for step, size in ((1, 4), (2, 64), (3, 8)):
        suite.on_step(context(tmp_path, step, HashEncoder(size)))
    restored = LightSuite([sts()])
    assert restored.best_step is None
    restored.load_state_dict(json.loads(json.dumps(suite.state_dict())))
    assert restored.history == suite.history
    means = {step: scores["alike"] for step, scores in suite.history.items()}
    assert restored.best_step == max(means, key=means.get)


def test_suite_is_read_and_lightened_from_paths(tmp_path):
    folder = tmp_path / "alike"
    folder.mkdir()
    rows = [{"sentence1": t, "sentence2": t[::-1], "score": n} for n, t in enumerate(TEXTS)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = LightSuite.from_config(
        LightSuiteConfig(tasks=(str(folder),), max_items=10, every_steps=3)
    )
    suite.on_step(context(tmp_path, 3, HashEncoder(16)))
    assert read_run(tmp_path / "evaluation/step-00000003").results["alike"].num_items == 10


@pytest.mark.parametrize("settings", [{"tasks": ()}, {"tasks": ("a",), "every_steps": 0}])
def test_empty_suite_is_refused(settings):
    with pytest.raises(ConfigError, match=r"at least one task and every_steps >= 1"):
        LightSuiteConfig(**settings)


def test_light_retrieval_keeps_what_is_judged():
    task = lighten(retrieval(), max_items=4, max_documents=10)
    assert len(task.queries) == 4
    assert len(task.corpus) == 10
    names = {document.id for document in task.corpus}
    assert {d for grades in task.qrels.values() for d in grades} <= names
    assert task == lighten(retrieval(), max_items=4, max_documents=10)
    assert task != lighten(retrieval(), max_items=4, max_documents=10, seed=1)
    assert len(lighten(retrieval(), max_items=4, max_documents=2).corpus) == 4


def test_light_tasks_keep_sides_together_and_every_label():
    labels = [f"label {n % 12}" for n in range(60)]
    pairs = lighten(
        PairClassificationTask(
            name="p", sentences1=TEXTS, sentences2=TEXTS, labels=[n % 2 for n in range(60)]
        ),
        max_items=9,
    )
    assert pairs.sentences1 == pairs.sentences2
    assert len(pairs.labels) == 9
    learned = lighten(
        ClassificationTask(
            name="c", train_texts=TEXTS, train_labels=labels, texts=TEXTS, labels=labels
        ),
        max_items=7,
        max_documents=3,
    )
    assert len(learned.texts) == 7
    assert set(learned.train_labels) == set(labels)
    grouped = lighten(ClusteringTask(name="k", texts=TEXTS, labels=labels), max_items=20)
    assert len(grouped.texts) == 20
    assert set(grouped.labels) == set(labels)
    ordered = lighten(
        RerankingTask(
            name="r", queries=TEXTS, candidates=[[t, "x"] for t in TEXTS], labels=[[1, 0]] * 60
        ),
        max_items=5,
    )
    assert [c[0] for c in ordered.candidates] == ordered.queries
    judged = lighten(
        SummarisationTask(
            name="s",
            human=[[t] for t in TEXTS],
            machine=[[t, "x"] for t in TEXTS],
            scores=[[1.0, 0.0]] * 60,
        ),
        max_items=6,
    )
    assert [h[0] for h in judged.human] == [m[0] for m in judged.machine]
    assert lighten(Task(name="other")) == Task(name="other")
