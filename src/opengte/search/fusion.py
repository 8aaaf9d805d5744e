"""Several rankings of the same documents -> one.

Reciprocal rank fusion looks at ranks alone, so that scores of different kinds (cosine, BM25)
never meet; the score sum scales each list to [0, 1] first. Raw scores are never added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opengte.errors import ConfigError
from opengte.records import Hit


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Hit]],
    *,
    k: float = 60,
    weights: Sequence[float] | None = None,
    limit: int | None = None,
) -> list[Hit]:
    """Order documents by sum of weight / (k + rank), ranks from 1 (Cormack et al. 2009).

    Args:
        rankings: lists of hits, best first; their position is their rank.
        k: damps the first ranks; 60 in the paper.
        weights: one a ranking, not negative; None weighs all alike.
        limit: keep so many.

    Returns:
        Hits with fused scores; ties go to the document that was seen first.

    Raises:
        ConfigError: k is not positive, or the weights do not fit.
    """
    if not k > 0:
        raise ConfigError(f"k of reciprocal rank fusion must be > 0, got {k}")
    return _weighted_sum([_reciprocal(ranking, k) for ranking in rankings], weights, limit)


def scaled_score_fusion(
    rankings: Sequence[Sequence[Hit]],
    *,
    weights: Sequence[float] | None = None,
    limit: int | None = None,
) -> list[Hit]:
    """Order documents by the weighted sum of scores, each list scaled to [0, 1] (CombSUM).

    A document that a list lacks gets 0 from it; a list of equal scores gives 1 to each of its own.

    Args:
        rankings: lists of hits.
        weights: one a ranking, not negative; None weighs all alike.
        limit: keep so many.

    Raises:
        ConfigError: the weights do not fit.
    """
    return _weighted_sum([_scaled(ranking) for ranking in rankings], weights, limit)


def _reciprocal(ranking: Sequence[Hit], k: float) -> dict[str, float]:
    values: dict[str, float] = {}
    for rank, hit in enumerate(ranking, start=1):
        values.setdefault(hit.id, 1.0 / (k + rank))
    return values


def _scaled(ranking: Sequence[Hit]) -> dict[str, float]:
    if not ranking:
        return {}
    low, high = min(hit.score for hit in ranking), max(hit.score for hit in ranking)
    if high == low:
        return {hit.id: 1.0 for hit in ranking}
    return {hit.id: (hit.score - low) / (high - low) for hit in ranking}


def _weighted_sum(
    lists: Sequence[Mapping[str, float]], weights: Sequence[float] | None, limit: int | None
) -> list[Hit]:
    weights = [1.0] * len(lists) if weights is None else weights
    if len(weights) != len(lists) or any(not weight >= 0 for weight in weights):
        raise ConfigError(
            f"fusion needs one weight >= 0 a ranking; got {list(weights)} for {len(lists)} rankings"
        )
    totals: dict[str, float] = {}
    for values, weight in zip(lists, weights, strict=True):
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + weight * value
    # sorted() is stable: equal totals keep the order in which documents were first seen.
    best = sorted(totals.items(), key=lambda item: -item[1])[:limit]
    return [Hit(name, total, rank) for rank, (name, total) in enumerate(best, start=1)]
