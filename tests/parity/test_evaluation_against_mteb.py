"""Our protocols beside mteb's own code, on the same local rows and with the same encoder."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import replace

import numpy as np
import pytest

from opengte.errors import ConfigError, MissingExtraError
from opengte.evaluation import EvaluationConfig, evaluate, load_task
from opengte.evaluation.clustering import ClusteringConfig
from opengte.evaluation.mteb_adapter import MtebEncoder, run_benchmark, run_with_mteb
from opengte.evaluation.mteb_files import write_mteb_files
from opengte.evaluation.mteb_tasks import make_mteb_task
from opengte.evaluation.tasks import (
    BitextTask,
    ClassificationTask,
    ClusteringTask,
    InstructionTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    SummarisationTask,
)
from opengte.records import Document, Query
from opengte.runtime.hashed import HashEncoder
from opengte.text.prompts import INSTRUCTION_TEMPLATE

if importlib.util.find_spec("mteb") is None:
    pytest.skip("mteb is not installed", allow_module_level=True)

# mteb and what it imports warn about their own future.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.filterwarnings("ignore")]

TOPICS = ("tea", "rain", "chess", "violin", "granite", "otter")
FILLER = [
    "the",
    "a",
    "of",
    "some",
    "very",
    "with",
    "near",
    "under",
    "old",
    "new",
    "quick",
    "slow",
    "red",
    "blue",
    "first",
    "last",
]


def sentence(rng, topic=None):
    words = rng.choices(FILLER, k=rng.randint(2, 9))
    words.insert(rng.randint(0, 2), topic or rng.choice(TOPICS))
    return " ".join(words)


@pytest.fixture(scope="module")
def tasks():
    rng = random.Random(0)
    topics = [rng.choice(TOPICS) for _ in range(160)]
    texts = [sentence(rng, topic) for topic in topics]
    documents = [
        Document(id=f"{n * 37 % 160}", text=text, title=f"title {topic}" if n % 3 else "")
        for n, (text, topic) in enumerate(zip(texts, topics, strict=True))
    ]
    queries = [Query(id=f"q{n}", text=sentence(rng, rng.choice(TOPICS))) for n in range(20)]
    qrels = {
        query.id: {d.id: rng.randint(0, 2) for d in rng.sample(documents, 12)} for query in queries
    }
    retrieval = RetrievalTask(name="find", corpus=documents, queries=queries, qrels=qrels)
    pairs = [sentence(rng) for _ in texts]
    return {
        "retrieval": retrieval,
        "candidates": replace(
            retrieval,
            name="few",
            candidates={q.id: [d.id for d in rng.sample(documents, 30)] for q in queries},
        ),
        "identical": replace(
            retrieval,
            name="self",
            queries=[Query(id=d.id, text=d.text) for d in documents[:15]],
            qrels={d.id: {o.id: 1 for o in rng.sample(documents, 6)} for d in documents[:15]},
            ignore_identical_ids=True,
        ),
        "reranking": RerankingTask(
            name="order",
            queries=[sentence(rng) for _ in range(15)],
            candidates=[[sentence(rng) for _ in range(8)] for _ in range(15)],
            labels=[[1, *rng.choices((0, 1), k=6), 0] for _ in range(15)],
        ),
        "sts": StsTask(
            name="alike",
            sentences1=texts,
            sentences2=pairs,
            scores=[rng.randint(0, 10) / 2 for _ in texts],
        ),
        "pair_classification": PairClassificationTask(
            name="same",
            sentences1=texts,
            sentences2=pairs,
            labels=[rng.randint(0, 1) for _ in texts],
        ),
        "classification": ClassificationTask(
            name="label",
            train_texts=texts[:100],
            train_labels=topics[:100],
            texts=texts[100:],
            labels=topics[100:],
        ),
        "clustering": ClusteringTask(name="group", texts=texts, labels=topics),
        "bitext": BitextTask(
            name="translate",
            subsets={
                "deu-eng": (texts[:40], pairs[:40]),
                "fra-eng": (texts[40:60], [f"{text} x" for text in texts[40:60]]),
            },
        ),
        "summarisation": SummarisationTask(
            name="sum",
            human=[[sentence(rng) for _ in range(3)] for _ in range(9)],
            machine=[[sentence(rng) for _ in range(5)] for _ in range(9)],
            scores=[[rng.randint(1, 5) for _ in range(5)] for _ in range(9)],
        ),
    }


CLUSTERING = ClusteringConfig(texts_per_experiment=300)
SHARED_METRICS = {
    "retrieval": {"ndcg@10": "ndcg_at_10", "map": "map_at_1000", "recall@10": "recall_at_10"},
    "candidates": {"ndcg@10": "ndcg_at_10", "mrr@10": "mrr_at_10"},
    "identical": {"ndcg@10": "ndcg_at_10", "hit@1": "hit_rate_at_1"},
    "reranking": {"map": "map_at_1000", "ndcg@10": "ndcg_at_10"},
    "sts": {name: name for name in ("cosine_pearson", "manhattan_spearman", "euclidean_pearson")},
    "pair_classification": {
        name: name
        for name in ("cosine_f1", "cosine_accuracy", "manhattan_ap", "dot_recall", "max_f1")
    },
    "classification": {name: name for name in ("accuracy", "f1", "f1_weighted", "recall")},
    "clustering": {"v_measure": "v_measure", "ami": "ami"},
    "bitext": {"accuracy": "accuracy", "precision": "precision"},
    "summarisation": {name: name for name in ("cosine_pearson", "dot_spearman")},
}


@pytest.mark.parametrize("kind", list(SHARED_METRICS))
def test_agrees_with_mteb_within_half_a_thousandth(tasks, kind, tmp_path, monkeypatch):
    task = tasks[kind]
    encoder = HashEncoder(64)
    if kind == "clustering":
        monkeypatch.setattr("opengte.evaluation.mteb_tasks.ClusteringConfig", lambda: CLUSTERING)
    ours = evaluate(encoder, task, config=EvaluationConfig(clustering=CLUSTERING))
    (theirs,) = run_with_mteb(MtebEncoder(encoder), [task], folder=tmp_path)
    assert ours.main_score == pytest.approx(theirs.main_score, abs=5e-4)
    for name, mteb_name in SHARED_METRICS[kind].items():
        assert ours.metrics[name] == pytest.approx(theirs.metrics[mteb_name], abs=5e-4), name
    if kind == "bitext":
        assert ours.subsets == pytest.approx(theirs.subsets, abs=5e-4)


@pytest.mark.parametrize("settings", [{"protocol": "whole"}, {"max_fraction": 0.5}])
def test_other_clustering_protocols_agree_with_mteb(tasks, settings, tmp_path, monkeypatch):
    config = ClusteringConfig(texts_per_experiment=200, **settings)
    monkeypatch.setattr("opengte.evaluation.mteb_tasks.ClusteringConfig", lambda: config)
    encoder = HashEncoder(64)
    ours = evaluate(encoder, tasks["clustering"], config=EvaluationConfig(clustering=config))
    (theirs,) = run_with_mteb(MtebEncoder(encoder), [tasks["clustering"]], folder=tmp_path)
    assert ours.main_score == pytest.approx(theirs.main_score, abs=5e-4)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["cranfield", "trecqa_wang", "mrpc", "stsbenchmark"])
def test_agrees_with_mteb_on_real_sets(shared_data, name, tmp_path):
    task = load_task(shared_data / "eval" / name)
    encoder = HashEncoder(128)
    ours = evaluate(encoder, task)
    (theirs,) = run_with_mteb(MtebEncoder(encoder), [task], folder=tmp_path)
    assert ours.main_score == pytest.approx(theirs.main_score, abs=5e-4)


def test_mteb_reads_the_files_that_we_write(tasks, tmp_path):
    from mteb.results import TaskResult

    encoder = HashEncoder(64)
    results = [evaluate(encoder, tasks[kind]) for kind in ("retrieval", "sts", "bitext")]
    folder = write_mteb_files(tmp_path, encoder.space, results)
    read = {
        path.stem: TaskResult.from_disk(path)
        for path in folder.glob("*.json")
        if path.stem != "model_meta"
    }
    assert set(read) == {"find", "alike", "translate"}
    assert read["find"].get_score() == pytest.approx(results[0].main_score)
    assert read["find"].scores["test"][0]["ndcg_at_10"] == results[0].metrics["ndcg@10"]
    assert {row["hf_subset"] for row in read["translate"].scores["test"]} == {"deu-eng", "fra-eng"}
    assert read["translate"].get_score() == pytest.approx(results[2].main_score)
    meta = json.loads((folder / "model_meta.json").read_text())
    assert meta["name"].startswith("opengte/")
    assert meta["embed_dim"] == 64


def test_mteb_files_of_a_run_are_filed_under_the_models_name(tasks, tmp_path):
    run_with_mteb(MtebEncoder(HashEncoder(32)), [tasks["sts"]], folder=tmp_path)
    (found,) = tmp_path.rglob("alike.json")
    assert "no_model_name" not in str(found)
    assert "opengte__" in str(found)


class Metadata:
    def __init__(self, name="SciFact", type_="Retrieval", prompt=None):
        self.name, self.type, self.prompt = name, type_, prompt


def test_prompts_are_chosen_in_mtebs_order():
    order = ["SciFact-query", "SciFact", "Retrieval-query", "Retrieval", "query"]
    prompts = {key: key for key in order}
    for position, key in enumerate(order):
        left = {name: prompts[name] for name in order[position:]}
        adapter = MtebEncoder(HashEncoder(8), prompts=left)
        assert adapter.prompt_for(Metadata(), "query") == key
    assert MtebEncoder(HashEncoder(8)).prompt_for(Metadata(), "query") is None


def test_instruction_stands_before_queries_and_not_before_documents():
    adapter = MtebEncoder(HashEncoder(8), instruction_template=INSTRUCTION_TEMPLATE)
    metadata = Metadata(prompt={"query": "Find the claim"})
    assert adapter.prompt_for(metadata, "query") == "Instruct: Find the claim\nQuery: "
    assert adapter.prompt_for(metadata, "document") == ""
    assert adapter.prompt_for(Metadata(prompt="Judge"), None) == "Instruct: Judge\nQuery: "
    known = Metadata(name="STSBenchmark", type_="STS")
    assert "Retrieve semantically similar text" in adapter.prompt_for(known, None)
    with pytest.raises(ConfigError, match=r"no place for \{instruction\}"):
        MtebEncoder(HashEncoder(8), instruction_template="Query: ")


def test_models_own_prompts_follow_the_side():
    encoder = HashEncoder(16, query_prompt="query: ", document_prompt="passage: ")
    adapter = MtebEncoder(encoder)
    batches = [{"text": ["a", "b"]}, {"text": ["c"]}]
    for kind in ("query", "document", None):
        vectors = adapter.encode(batches, task_metadata=Metadata(), prompt_type=kind)
        np.testing.assert_array_equal(vectors, encoder.encode(["a", "b", "c"], kind=kind))


def test_similarities_are_cosines():
    adapter = MtebEncoder(HashEncoder(8))
    a = np.array([[3.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    b = np.array([[2.0, 0.0], [0.0, 5.0]], dtype=np.float32)
    root = float(np.sqrt(0.5))
    np.testing.assert_allclose(adapter.similarity(a, b).numpy(), [[1, 0], [root, root]], atol=1e-6)
    np.testing.assert_allclose(adapter.similarity_pairwise(a, b).numpy(), [1, root], atol=1e-6)


def test_adapter_satisfies_mtebs_protocol():
    from mteb.models import EncoderProtocol

    adapter = MtebEncoder(HashEncoder(8), training_datasets=["NQ"])
    assert isinstance(adapter, EncoderProtocol)
    assert adapter.mteb_model_meta.training_datasets == {"NQ"}


def test_unknown_benchmark_and_task_are_refused(tmp_path):
    adapter = MtebEncoder(HashEncoder(8))
    with pytest.raises(ConfigError, match=r"has no benchmark 'MTEB\(xyz\)'"):
        run_benchmark(adapter, "MTEB(xyz)", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"MTEB\(eng, v2\) has no task 'Nope'"):
        run_benchmark(adapter, "MTEB(eng, v2)", folder=tmp_path, tasks=["Nope"])


def test_hub_that_cannot_be_reached_is_told_in_one_line(tmp_path, monkeypatch):
    import mteb

    def unreachable(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(mteb, "evaluate", unreachable)
    from opengte.errors import DataError

    with pytest.raises(DataError, match=r"data of STSBenchmark cannot be fetched .* --task"):
        run_benchmark(
            MtebEncoder(HashEncoder(8)), "MTEB(eng, v2)", folder=tmp_path, tasks=["STSBenchmark"]
        )


def test_local_instructions_have_no_mteb_protocol(tasks):
    source = tasks["retrieval"]
    task = InstructionTask(
        name="i", corpus=source.corpus, queries=source.queries, qrels=source.qrels
    )
    with pytest.raises(ConfigError, match="no protocol for a local instruction_following set"):
        make_mteb_task(task)


def test_missing_mteb_names_its_extra(monkeypatch):
    real = importlib.import_module

    def refuse(name, *rest):
        if name == "mteb":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r'pip install "opengte\[mteb\]"'):
        MtebEncoder(HashEncoder(8))
