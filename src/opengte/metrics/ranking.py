"""A run and its relevance judgements -> one number a query, by the rules of trec_eval.

Words: *qrels* hold a grade for each judged (query, document), a *run* a score for each found one.

Rules, all of them trec_eval's (and so those of BEIR and MTEB, which call it through pytrec_eval):

* **Ties.** Scores are compared as 32-bit floats; equal ones are ordered by document id,
  descending in code points. The order in which a run lists its documents never matters.
* **Relevance.** A grade above 0 is relevant; nDCG takes the grade itself as gain (linear) and
  the discount log2(rank + 1). Documents without a grade count as not relevant.
* **Queries.** Every judged query counts (``trec_eval -c``): one that the run lacks scores 0, and so
  does one without a relevant document. Left out are queries that only the run knows, and queries
  without a single judgement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from opengte.errors import ConfigError, DataError

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Mapping[str, float]]

DEFAULT_METRICS = ("ndcg@10", "mrr@10", "recall@10", "recall@100", "map", "hit@1")


def rank_documents(scores: Mapping[str, float]) -> list[str]:
    """Document ids, best first; ties as the module says.

    Raises:
        DataError: a score is NaN, which no order can place.
    """
    values = np.fromiter(scores.values(), dtype=np.float64, count=len(scores))
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32).tolist()
    if np.isnan(values).any():
        culprit = next(name for name, score in scores.items() if np.isnan(score))
        raise DataError(
            f"the score of document {culprit!r} is NaN; a run needs numbers that can be ordered"
        )
    ordered = sorted(zip(rounded, scores, strict=True), reverse=True)
    return [document for _, document in ordered]


def evaluate_run(
    qrels: Qrels, run: Run, metrics: Sequence[str] = DEFAULT_METRICS
) -> dict[str, dict[str, float]]:
    """Score a run query by query.

    Args:
        qrels: query id to {document id: grade}.
        run: query id to {document id: score}; larger is better.
        metrics: any of ``ndcg@k``, ``mrr@k``, ``map@k``, ``recall@k``, ``precision@k``, ``hit@k``;
            ``ndcg``, ``mrr`` and ``map`` also without ``@k``: over the whole list.

    Returns:
        For each metric, a value in [0, 1] for each judged query, in the order of ``qrels``.

    Raises:
        ConfigError: a metric is unknown.
        DataError: a score is NaN.
    """
    functions = {name: metric_function(name) for name in metrics}
    results: dict[str, dict[str, float]] = {name: {} for name in metrics}
    for query, grades in qrels.items():
        if not grades:
            continue
        ranking = rank_documents(run.get(query, {}))
        gains = [max(grades.get(document, 0), 0) for document in ranking]
        ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
        for name, function in functions.items():
            results[name][query] = function(gains, ideal)
    return results


def mean_of(values: Mapping[str, float]) -> float:
    """Plain mean over queries; 0 where there are none."""
    return float(np.mean(list(values.values()))) if values else 0.0


Metric = Callable[[Sequence[int], Sequence[int]], float]
"""(gains of the ranked documents, positive grades in descending order) -> value."""


def metric_function(name: str) -> Metric:
    """The function behind a metric's name, e.g. ``ndcg@10``.

    Raises:
        ConfigError: there is none.
    """
    match = re.fullmatch(r"([a-z]+)(?:@([1-9]\d*))?", name)
    family = match.group(1) if match else ""
    cut = int(match.group(2)) if match and match.group(2) else None
    if family not in _FAMILIES or (cut is None and family not in ("ndcg", "mrr", "map")):
        raise ConfigError(
            f"unknown metric {name!r}; give one of ndcg@k, mrr@k, map@k, recall@k, precision@k, "
            "hit@k with k >= 1, or ndcg, mrr, map"
        )
    function = _FAMILIES[family]
    return lambda gains, ideal: function(gains, ideal, cut)


def _ndcg(gains: Sequence[int], ideal: Sequence[int], cut: int | None) -> float:
    best = _discounted(ideal[:cut])
    return _discounted(gains[:cut]) / best if best > 0 else 0.0


def _discounted(gains: Sequence[int]) -> float:
    if not gains:
        return 0.0
    values = np.asarray(gains, dtype=np.float64)
    return float(np.sum(values / np.log2(np.arange(2, len(values) + 2))))


def _mrr(gains: Sequence[int], ideal: Sequence[int], cut: int | None) -> float:
    for rank, gain in enumerate(gains[:cut], start=1):
        if gain > 0:
            return 1.0 / rank
    return 0.0


def _average_precision(gains: Sequence[int], ideal: Sequence[int], cut: int | None) -> float:
    found, total = 0, 0.0
    for rank, gain in enumerate(gains[:cut], start=1):
        if gain > 0:
            found += 1
            total += found / rank
    return total / len(ideal) if ideal else 0.0


def _recall(gains: Sequence[int], ideal: Sequence[int], cut: int | None) -> float:
    return sum(gain > 0 for gain in gains[:cut]) / len(ideal) if ideal else 0.0


def _precision(gains: Sequence[int], ideal: Sequence[int], cut: int | None) -> float:
    # trec_eval divides by k even where the run holds fewer documents.
    return sum(gain > 0 for gain in gains[:cut]) / (cut or 1)


def _hit(gains: Sequence[int], ideal: Sequence[int], cut: int | None) -> float:
    return float(any(gain > 0 for gain in gains[:cut]))


_FAMILIES: dict[str, Callable[[Sequence[int], Sequence[int], int | None], float]] = {
    "ndcg": _ndcg,
    "mrr": _mrr,
    "map": _average_precision,
    "recall": _recall,
    "precision": _precision,
    "hit": _hit,
}
