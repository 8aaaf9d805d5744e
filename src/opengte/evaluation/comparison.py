"""Two systems on the same tasks -> paired differences that say how sure they are.

Queries are paired, clusters of queries are drawn as a whole, and where both systems were trained
with several seeds, seeds are drawn too. P-values are adjusted over the tasks by Holm's method:
with twenty tasks, one of them would differ at 5 % by chance alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.errors import DataError
from opengte.evaluation.pair_classification import ScoredPairs
from opengte.evaluation.results import EvaluationRun, TaskResult
from opengte.metrics.bootstrap import Interval, holm, paired_difference, paired_p_value
from opengte.metrics.correlation import RankedPairs

_SAMPLES = 1_000  # of a statistic that has to be computed anew for each


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """System a against system b on one task.

    Attributes:
        key: TASK or TASK/RETRIEVER.
        metric: what is compared: the task's main metric, or the cosine's part of it.
        a: mean of a, over its seeds.
        b: mean of b.
        difference: a - b with its interval; its ``scope`` says whether seeds were drawn.
        p_value: two-sided.
        p_holm: adjusted over all tasks compared.
        wins, losses, ties: items on which a is better, worse, alike; 0 where items have no value.
        num_seeds: of each system.
    """

    key: str
    metric: str
    a: float
    b: float
    difference: Interval
    p_value: float
    p_holm: float = 1.0
    wins: int = 0
    losses: int = 0
    ties: int = 0
    num_seeds: int = 1


def compare_systems(
    a: Sequence[EvaluationRun], b: Sequence[EvaluationRun], *, seed: int = 0
) -> list[TaskComparison]:
    """Compare two systems on every task that both have, with Holm's adjustment.

    Args:
        a: runs of one system, one a training seed.
        b: as many runs of the other, seed for seed.
        seed: of the resampling.

    Raises:
        DataError: nothing in common, another number of seeds, or tasks of one name that differ.
    """
    if len(a) != len(b) or not a:
        raise DataError(
            f"a comparison needs as many runs of each system; got {len(a)} and {len(b)}"
        )
    found = []
    for key in comparable_keys(a, b):
        ours = [run.results[key] for run in a]
        theirs = [run.results[key] for run in b]
        check_same_task(key, (*ours, *theirs))
        comparison = _compare(key, ours, theirs, seed)
        if comparison is not None:
            found.append(comparison)
    if not found:
        raise DataError(
            "the systems have no task with values of single items in common; "
            "evaluate both into folders (--out) on the same tasks"
        )
    adjusted = holm([comparison.p_value for comparison in found])
    return [replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True)]


def compare_models(runs: Sequence[EvaluationRun], baseline: str) -> dict[str, list[TaskComparison]]:
    """Every model of ``runs`` against one of them; models without a task in common are left out.

    Where the numbers of seeds differ, as many of each as the smaller one has are taken.

    Raises:
        DataError: no results of the baseline.
    """
    by_model: dict[str, list[EvaluationRun]] = {}
    for run in runs:
        by_model.setdefault(run.model, []).append(run)
    if baseline not in by_model:
        known = ", ".join(by_model)
        raise DataError(f"no results of the baseline {baseline!r}; there are: {known}")
    ours = by_model.pop(baseline)
    found = {}
    for model, theirs in by_model.items():
        count = min(len(ours), len(theirs))
        if comparable_keys(theirs[:count], ours[:count]):
            found[model] = compare_systems(theirs[:count], ours[:count])
    return found


def comparisons_json(compared: Sequence[TaskComparison]) -> list[dict[str, Any]]:
    """Comparisons as JSON."""
    return [
        {
            "task": row.key,
            "metric": row.metric,
            "a": row.a,
            "b": row.b,
            "difference": row.difference.mean,
            "ci95": [row.difference.low, row.difference.high],
            "interval_scope": row.difference.scope,
            "p_holm": row.p_holm,
            "wins": row.wins,
            "losses": row.losses,
            "ties": row.ties,
            "num_seeds": row.num_seeds,
        }
        for row in compared
    ]


def comparable_keys(a: Sequence[EvaluationRun], b: Sequence[EvaluationRun]) -> list[str]:
    """Tasks that all runs have with values of single items."""
    runs = (*a, *b)
    shared = [key for key in a[0].results if all(key in run.results for run in runs)]
    return [key for key in shared if all(run.results[key].per_query for run in runs)]


def check_same_task(key: str, results: Sequence[TaskResult]) -> None:
    """Refuse results that bear one name and measure different things.

    Raises:
        DataError: split, metric, kind or number of items differ.
    """
    identities = {task_identity(result) for result in results}
    if len(identities) > 1:
        first, second = sorted(identities)[:2]
        raise DataError(
            f"results of {key!r} do not measure the same: {' '.join(map(str, first))} against "
            f"{' '.join(map(str, second))} (type, split, metric, items)"
        )


def task_identity(result: TaskResult) -> tuple[str, str, str, int]:
    """What two results must share to stand in one column: type, split, metric, items."""
    return (result.type, result.split, result.main_metric, result.num_items)


def _compare(
    key: str, a: Sequence[TaskResult], b: Sequence[TaskResult], seed: int
) -> TaskComparison | None:
    metric = a[0].main_metric
    if all(metric in result.per_query for result in (*a, *b)):
        return _by_items(key, metric, a, b, seed)
    if all({"cosine", "gold"} <= set(result.per_query) for result in (*a, *b)):
        return _by_statistic(key, a, b, seed)
    return None


def _by_items(
    key: str, metric: str, a: Sequence[TaskResult], b: Sequence[TaskResult], seed: int
) -> TaskComparison:
    items = list(a[0].per_query[metric])
    ours, theirs = (_matrix(results, metric, items, key) for results in (a, b))
    groups = [_group(a[0], item) for item in items]
    difference = paired_difference(ours, theirs, groups, seed=seed)
    means = (ours - theirs).mean(axis=0)
    return TaskComparison(
        key=key,
        metric=metric,
        a=float(ours.mean()),
        b=float(theirs.mean()),
        difference=difference,
        p_value=paired_p_value(ours, theirs, groups, seed=seed),
        wins=int(np.sum(means > 1e-12)),
        losses=int(np.sum(means < -1e-12)),
        ties=int(np.sum(np.abs(means) <= 1e-12)),
        num_seeds=len(a),
    )


def _by_statistic(
    key: str, a: Sequence[TaskResult], b: Sequence[TaskResult], seed: int
) -> TaskComparison:
    """Spearman or average precision of the cosine, resampled on the same pairs for both."""
    items = list(a[0].per_query["cosine"])
    gold = _matrix(a[:1], "gold", items, key)[0]
    ours, theirs = (_matrix(results, "cosine", items, key) for results in (a, b))
    is_sts = a[0].type == "sts"
    rng = np.random.default_rng(seed)

    def statistic(cosines: NDArray[np.float64]) -> Callable[[NDArray[np.int64]], float]:
        if is_sts:
            return RankedPairs(cosines, gold).spearman
        return ScoredPairs(cosines, gold.astype(np.int64)).average_precision

    everything = np.arange(len(items))
    sides = [[statistic(line) for line in side] for side in (ours, theirs)]
    means = [np.mean([measure(everything) for measure in side]) for side in sides]
    draws = np.empty(_SAMPLES)
    for number in range(_SAMPLES):
        rows = rng.integers(0, len(items), size=len(items))
        chosen = rng.integers(0, len(a), size=len(a))
        draws[number] = np.mean([sides[0][s](rows) - sides[1][s](rows) for s in chosen])
    low, high = np.quantile(draws, [0.025, 0.975])
    scope = "queries and seeds" if len(a) > 1 else "queries only"
    tail = min(np.sum(draws <= 0), np.sum(draws >= 0))
    return TaskComparison(
        key=key,
        metric="cosine_spearman" if is_sts else "cosine_ap",
        a=float(means[0]),
        b=float(means[1]),
        difference=Interval(float(means[0] - means[1]), float(low), float(high), scope),
        p_value=float(min(1.0, 2 * (tail + 1) / (_SAMPLES + 1))),
        num_seeds=len(a),
    )


def _matrix(
    results: Sequence[TaskResult], metric: str, items: Sequence[str], key: str
) -> NDArray[np.float64]:
    """(seeds, items) values of a metric."""
    rows = []
    for result in results:
        values: Mapping[str, float] = result.per_query[metric]
        if set(values) != set(items):
            raise DataError(f"results of {key!r} were measured on different queries")
        rows.append([values[item] for item in items])
    return np.asarray(rows, dtype=np.float64)


def _group(result: TaskResult, item: str) -> str:
    known = result.items.get(item)
    return known.group if known is not None and known.group else f"item {item}"
