"""Rankings, correlations, clusterings and the intervals around them. No torch here."""

from __future__ import annotations

from opengte.metrics.bootstrap import (
    Interval,
    clustered_interval,
    hierarchical_interval,
    holm,
    paired_difference,
    paired_p_value,
    statistic_interval,
)
from opengte.metrics.correlation import RankedPairs, pearson, spearman
from opengte.metrics.ranking import evaluate_run, mean_of, rank_documents

__all__ = [
    "Interval",
    "RankedPairs",
    "clustered_interval",
    "evaluate_run",
    "hierarchical_interval",
    "holm",
    "mean_of",
    "paired_difference",
    "paired_p_value",
    "pearson",
    "rank_documents",
    "spearman",
    "statistic_interval",
]
