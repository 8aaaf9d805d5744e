from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from opengte.errors import ConfigError, DataError
from opengte.evaluation import EmbeddingCache, EvaluationConfig, evaluate
from opengte.evaluation.clustering import ClusteringConfig
from opengte.evaluation.results import read_results, write_results
from opengte.evaluation.retrieval import RetrievalConfig
from opengte.evaluation.tasks import (
    BitextTask,
    ClassificationTask,
    ClusteringTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    Task,
)
from opengte.records import Document, Query
from opengte.runtime.hashed import HashEncoder

TOPICS = {
    "tea": ["green tea leaves", "a pot of black tea", "brewing tea at home", "tea ceremony"],
    "sql": ["SQL join of tables", "select rows in SQL", "SQL index on a table", "SQL view"],
    "cats": ["the cat purrs", "cats chase mice", "a cat on the mat", "feeding a cat"],
}
TEXTS = [text for texts in TOPICS.values() for text in texts]
LABELS = [label for label, texts in TOPICS.items() for _ in texts]


class CountingEncoder(HashEncoder):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.seen = []

    def embed(self, texts, **options):
        self.seen += list(texts)
        return super().embed(texts, **options)


@pytest.fixture
def encoder():
    return CountingEncoder(128)


@pytest.fixture
def retrieval():
    return RetrievalTask(
        name="topics",
        corpus=[Document(id=f"d{n}", text=text) for n, text in enumerate(TEXTS)],
        queries=[Query(id=label, text=f"about {label}", group=label[0]) for label in TOPICS],
        qrels={
            label: {f"d{n}": 1 for n, other in enumerate(LABELS) if other == label}
            for label in TOPICS
        },
    )


def test_retrieval_embeds_the_corpus_once_for_all_retrievers(encoder, retrieval):
    result = evaluate(encoder, retrieval, retrievers=("dense", "bm25", "hybrid"))
    assert sorted(encoder.seen) == sorted([*TEXTS, *(query.text for query in retrieval.queries)])
    assert list(result.by_retriever) == ["dense", "bm25", "hybrid"]
    assert result.key == "topics/dense"
    assert result.main_metric == "ndcg@10"
    assert result.main_score == pytest.approx(np.mean(list(result.per_query["ndcg@10"].values())))
    assert result.ci95[0] <= result.main_score <= result.ci95[1]
    assert result.by_retriever["bm25"].num_tokens == 0
    assert result.num_tokens > 0


def test_perfect_ranking_scores_one(encoder, retrieval):
    config = EvaluationConfig(retrieval=RetrievalConfig(tokenizer="words:english"))
    result = evaluate(encoder, retrieval, retrievers=("bm25",), config=config)
    assert result.main_score == result.metrics["recall@10"] == 1.0


def test_words_alone_need_no_encoder(retrieval):
    assert evaluate(None, retrieval, retrievers=("bm25",)).retriever == "bm25"
    with pytest.raises(ConfigError, match="retriever 'hybrid' needs an encoder"):
        evaluate(None, retrieval, retrievers=("bm25", "hybrid"))
    with pytest.raises(ConfigError, match="unknown retriever 'magic'; give one of dense, bm25"):
        evaluate(None, retrieval, retrievers=("magic",))
    with pytest.raises(ConfigError, match="at least one retriever"):
        evaluate(None, retrieval, retrievers=())


def test_hit_with_the_querys_own_id_can_be_left_out(encoder):
    task = RetrievalTask(
        name="self",
        corpus=[Document(id="a", text="green tea"), Document(id="b", text="green tea pot")],
        queries=[Query(id="a", text="green tea")],
        qrels={"a": {"b": 1}},
        ignore_identical_ids=True,
    )
    for name, found in evaluate(
        encoder, task, retrievers=("dense", "bm25", "hybrid")
    ).by_retriever.items():
        assert found.metrics["hit@1"] == 1.0, name


def test_query_prompt_of_the_task_replaces_the_models_own(retrieval):
    encoder = CountingEncoder(64, query_prompt="query: ")
    plain = evaluate(encoder, retrieval).per_query["map"]
    config = EvaluationConfig(prompts={"retrieval": "cats cats cats cats "})
    assert evaluate(encoder, retrieval, config=config).per_query["map"] != plain


def test_sts_is_the_spearman_of_the_cosine(encoder):
    rng = np.random.default_rng(0)
    pairs = [rng.choice(TEXTS, size=2) for _ in range(60)]
    gold = rng.random(60)
    task = StsTask(
        name="s",
        sentences1=[str(a) for a, _ in pairs],
        sentences2=[str(b) for _, b in pairs],
        scores=gold.tolist(),
    )
    result = evaluate(encoder, task)
    vectors = encoder.encode([*task.sentences1, *task.sentences2])
    cosine = np.einsum("nd,nd->n", vectors[:60].astype(float), vectors[60:].astype(float))
    expected = scipy.stats.spearmanr(np.round(cosine, 7), gold)[0]
    assert result.main_score == pytest.approx(expected, abs=2e-3)
    assert set(result.metrics) >= {"cosine_pearson", "manhattan_spearman", "euclidean_pearson"}
    assert len(result.per_query["cosine"]) == 60


def test_equal_sentences_are_embedded_once(encoder):
    task = StsTask(
        name="s",
        sentences1=["same"] * 4,
        sentences2=["same", "other", "other", "third"],
        scores=[3.0, 1.0, 1.0, 0.0],
    )
    evaluate(encoder, task)
    assert len(encoder.seen) == 1 + 3


def test_pair_classification_of_separable_pairs_is_perfect(encoder):
    task = PairClassificationTask(
        name="p",
        sentences1=TEXTS,
        sentences2=[*TEXTS[:6], *reversed(TEXTS[:6])],
        labels=[1] * 6 + [0] * 6,
    )
    result = evaluate(encoder, task)
    assert result.main_metric == "max_ap"
    assert result.main_score == pytest.approx(1.0)
    assert result.metrics["cosine_f1"] == pytest.approx(1.0)


def test_pairs_of_one_label_cannot_be_told_apart(encoder):
    task = PairClassificationTask(name="p", sentences1=["a"], sentences2=["b"], labels=[1])
    with pytest.raises(DataError, match="p: all pairs have one label"):
        evaluate(encoder, task)


def test_classification_learns_from_few_examples(encoder):
    task = ClassificationTask(
        name="c", train_texts=TEXTS, train_labels=LABELS, texts=TEXTS, labels=LABELS
    )
    result = evaluate(encoder, task)
    assert result.main_score == 1.0
    assert result.metrics["f1_weighted"] == 1.0


def test_clustering_of_far_groups_finds_them(encoder):
    texts = [f"{label} {label} {label} {n}" for label in TOPICS for n in range(30)]
    labels = [label for label in TOPICS for _ in range(30)]
    task = ClusteringTask(name="k", texts=texts, labels=labels)
    small = ClusteringConfig(texts_per_experiment=200)
    bootstrapped = evaluate(encoder, task, config=EvaluationConfig(clustering=small))
    whole = evaluate(
        encoder, task, config=EvaluationConfig(clustering=ClusteringConfig(protocol="whole"))
    )
    assert bootstrapped.main_score > 0.5
    assert whole.main_score > 0.5
    assert bootstrapped.interval_scope == "clustering experiments only"


def test_clustering_needs_two_groups_and_one_limit(encoder):
    with pytest.raises(DataError, match="at least two different labels"):
        evaluate(encoder, ClusteringTask(name="k", texts=["a", "b"], labels=["x", "x"]))
    with pytest.raises(ConfigError, match="max_fraction or max_texts of clustering, not both"):
        ClusteringConfig(max_fraction=0.5, max_texts=5)


def test_reranking_ties_go_against_the_model():
    class Constant(HashEncoder):
        def encode(self, texts, **options):
            return np.ones((len(texts), self.space.dimensions), dtype=np.float32)

        def embed(self, texts, **options):
            found = super().embed(texts, **options)
            return type(found)(self.encode(texts), found.num_tokens, found.truncated)

    task = RerankingTask(
        name="r", queries=["q"], candidates=[["good", "bad", "worse"]], labels=[[1, 0, 0]]
    )
    assert evaluate(Constant(4), task).main_score == pytest.approx(1 / 3)


def test_reranking_finds_the_answer(encoder):
    task = RerankingTask(
        name="r",
        queries=["brewing green tea", "cat on a mat"],
        candidates=[["SQL join", "green tea leaves"], ["a cat on the mat", "SQL view", "tea"]],
        labels=[[0, 1], [1, 0, 0]],
    )
    result = evaluate(encoder, task)
    assert result.main_metric == "map"
    assert result.main_score == 1.0


def test_bitext_counts_nearest_translations_by_language(encoder):
    task = BitextTask(
        name="b",
        subsets={
            "xxx-eng": (TEXTS, TEXTS),
            "yyy-eng": (TEXTS[:4], [TEXTS[1], TEXTS[0], TEXTS[2], TEXTS[3]]),
        },
    )
    result = evaluate(encoder, task)
    assert result.subsets["xxx-eng"] == pytest.approx(1.0)
    assert result.subsets["yyy-eng"] == pytest.approx(0.5)
    assert result.main_score == pytest.approx(0.75)
    assert result.per_query["accuracy"]["yyy-eng/0"] == 0.0


def test_task_without_a_protocol_and_task_without_an_encoder_are_refused(encoder):
    with pytest.raises(ConfigError, match="no protocol for a task of Task"):
        evaluate(encoder, Task(name="x"))
    with pytest.raises(ConfigError, match="a sts task needs an encoder"):
        evaluate(None, StsTask(name="s", sentences1=["a"], sentences2=["b"], scores=[1.0]))


def test_cache_on_disk_serves_the_next_run_but_not_another_model(tmp_path, retrieval):
    first, second = CountingEncoder(32), CountingEncoder(32)
    other = CountingEncoder(32, document_prompt="passage: ")
    before = evaluate(first, retrieval, cache=EmbeddingCache(tmp_path))
    after = evaluate(second, retrieval, cache=EmbeddingCache(tmp_path))
    evaluate(other, retrieval, cache=EmbeddingCache(tmp_path))
    assert second.seen == []
    assert len(other.seen) == len(first.seen)
    assert after.per_query == before.per_query
    assert after.num_tokens == before.num_tokens


def test_damaged_cache_file_is_embedded_again(tmp_path, retrieval):
    before = evaluate(CountingEncoder(32), retrieval, cache=EmbeddingCache(tmp_path))
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30])
    encoder = CountingEncoder(32)
    assert evaluate(encoder, retrieval, cache=EmbeddingCache(tmp_path)).metrics == before.metrics
    assert encoder.seen


def test_cache_in_memory_is_bounded(encoder):
    cache = EmbeddingCache(max_bytes=128 * 4 * 5)
    for start in range(0, 12, 3):
        cache.embed(encoder, TEXTS[start : start + 3])
    cache.embed(encoder, TEXTS[9:12])
    assert len(encoder.seen) == 12
    cache.embed(encoder, TEXTS[0:3])
    assert len(encoder.seen) == 15


def test_encoder_of_another_dimension_is_refused(retrieval):
    class Liar(HashEncoder):
        def embed(self, texts, **options):
            found = super().embed(texts, **options)
            return type(found)(found.vectors[:, :5], found.num_tokens, found.truncated)

    with pytest.raises(DataError, match=r"vectors of shape \(3, 5\), expected \(3, 8\)"):
        evaluate(Liar(8), retrieval)


def test_results_round_trip_with_the_values_of_single_queries(tmp_path, encoder, retrieval):
    result = evaluate(encoder, retrieval, retrievers=("dense", "bm25"))
    written = list(result.by_retriever.values())
    write_results(tmp_path / "run", "hash", written)
    model, read = read_results(tmp_path / "run")
    assert model == "hash"
    assert list(read) == ["topics/dense", "topics/bm25"]
    for result in written:
        back = read[result.key]
        assert back.main_score == result.main_score
        assert back.per_query == result.per_query
        assert back.ci95 == result.ci95
        assert back.items == result.items
    item = read["topics/dense"].items["tea"]
    assert item.text == "about tea"
    assert item.group == "t"
    assert item.hits[0].grade == 1
    assert item.hits[0].text in TEXTS


def test_results_in_one_file_have_the_documented_form(tmp_path, encoder, retrieval):
    result = evaluate(encoder, retrieval)
    path = write_results(tmp_path / "out.json", "hash", [result])
    cell = read_results(path)[1]["topics"].to_json()
    assert {"type", "main_metric", "main_score", "ci95", "metrics"} <= set(cell)
    assert cell["type"] == "retrieval"


@pytest.mark.parametrize("content", ["{}", '{"model": "m", "tasks": {"t": {}}}', "[]"])
def test_file_without_results_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x.json: no results of an evaluation"):
        read_results(tmp_path / "x.json")


def test_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match=r"x.json: cannot be read as JSON"):
        read_results(tmp_path / "x.json")


def test_main_metric_of_retrieval_must_be_known():
    with pytest.raises(ConfigError, match=r"main_metric 'ndcg' is not one of ndcg@10"):
        RetrievalConfig(main_metric="ndcg")
