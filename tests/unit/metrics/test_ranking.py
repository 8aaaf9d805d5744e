from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError, DataError
from opengte.metrics.ranking import evaluate_run, mean_of, rank_documents

OURS_TO_TREC = {
    "ndcg@3": "ndcg_cut_3",
    "ndcg@10": "ndcg_cut_10",
    "ndcg": "ndcg",
    "map": "map",
    "map@3": "map_cut_3",
    "mrr": "recip_rank",
    "recall@3": "recall_3",
    "recall@10": "recall_10",
    "precision@3": "P_3",
    "precision@10": "P_10",
    "hit@1": "success_1",
    "hit@3": "success_3",
}

document_ids = st.sampled_from(["a", "b", "B", "aa", "10", "9", "é", "漢", "z-1", "𝒳"])
# Few distinct scores make many ties; 1 + 1e-9 is a tie in 32 bits only.
scores = st.sampled_from([0.0, -1.5, 1.0, 1.0 + 1e-9, 0.1, 1e30, 3.3])
query_ids = st.sampled_from(["q1", "q2", "q3", "q4"])
# No grades below 0 here: pytrec_eval 0.5.11 reads uninitialised memory where a query has no other.
qrels_strategy = st.dictionaries(
    query_ids, st.dictionaries(document_ids, st.integers(0, 3), max_size=8), max_size=4
)
runs_strategy = st.dictionaries(
    query_ids, st.dictionaries(document_ids, scores, max_size=10), max_size=4
)


def trec_eval(qrels, run):
    cuts = {"ndcg_cut.3,10", "ndcg", "map", "map_cut.3", "recip_rank"}
    cuts |= {"recall.3,10", "P.3,10", "success.1,3"}
    return pytrec_eval.RelevanceEvaluator(qrels, cuts).evaluate(run)


@settings(max_examples=300, deadline=None)
@given(qrels=qrels_strategy, run=runs_strategy)
def test_agrees_with_pytrec_eval_on_ties_missing_documents_and_empty_qrels(qrels, run):
    expected = trec_eval(qrels, run)
    ours = evaluate_run(qrels, run, tuple(OURS_TO_TREC))
    for name, trec_name in OURS_TO_TREC.items():
        judged = {query for query, grades in qrels.items() if grades}
        assert set(ours[name]) == judged
        for query in judged:
            reference = expected.get(query, {}).get(trec_name, 0.0)
            assert ours[name][query] == pytest.approx(reference, abs=1e-6), (name, query)


@given(run=st.dictionaries(document_ids, scores, min_size=1), seed=st.integers(0, 99))
def test_order_of_the_run_never_matters(run, seed):
    items = list(run.items())
    np.random.default_rng(seed).shuffle(items)
    assert rank_documents(dict(items)) == rank_documents(run)


def test_ties_are_ordered_by_descending_document_id():
    assert rank_documents({"a": 1.0, "c": 1.0, "b": 1.0, "d": 0.5}) == ["c", "b", "a", "d"]


def test_mrr_is_cut_at_k():
    qrels = {"q": {"d4": 1}}
    run = {"q": {f"d{rank}": -float(rank) for rank in range(1, 8)}}
    values = evaluate_run(qrels, run, ("mrr@3", "mrr@10", "mrr"))
    assert values["mrr@3"]["q"] == 0.0
    assert values["mrr@10"]["q"] == values["mrr"]["q"] == 0.25


@given(run=st.dictionaries(document_ids, scores, min_size=1), qrels=qrels_strategy)
def test_grade_below_zero_counts_as_zero(run, qrels):
    lowered = {q: {d: g or -2 for d, g in grades.items()} for q, grades in qrels.items()}
    runs = dict.fromkeys(qrels, run)
    names = tuple(OURS_TO_TREC)
    assert evaluate_run(lowered, runs, names) == evaluate_run(qrels, runs, names)


def test_query_that_the_run_lacks_counts_as_zero():
    values = evaluate_run({"q1": {"a": 1}, "q2": {"a": 1}}, {"q1": {"a": 1.0}}, ("ndcg@10",))
    assert values["ndcg@10"] == {"q1": 1.0, "q2": 0.0}
    assert mean_of(values["ndcg@10"]) == 0.5


@pytest.mark.parametrize("name", ["ndgc@10", "recall", "hit", "ndcg@0", "ndcg@", "mrr@-1", ""])
def test_unknown_metric_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"unknown metric .* give one of ndcg@k"):
        evaluate_run({"q": {"a": 1}}, {}, (name,))


def test_nan_score_is_refused_by_document():
    with pytest.raises(DataError, match="the score of document 'b' is NaN"):
        rank_documents({"a": 1.0, "b": float("nan")})
