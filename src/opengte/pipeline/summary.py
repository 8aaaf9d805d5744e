"""Findings -> ``summary.json``: the numbers of a run in a form that programs read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from opengte.metrics.bootstrap import Interval
from opengte.pipeline.findings import SLICES, SYSTEMS, Comparison, Findings
from opengte.pipeline.measure import METRICS


def summarise_run(findings: Findings) -> dict[str, Any]:
    """The summary; a system or slice that was not measured is null."""
    config = findings.config
    corpus = findings.facts(config.corpus)
    trained = [findings.facts(name) for name in findings.training_stages]
    stages = findings.results.values()
    difference = findings.comparisons["all"].difference
    return {
        "systems": {name: _system(findings.systems.get(name)) for name in SYSTEMS},
        "slices": {name: _slice(findings.comparisons.get(name)) for name in (*SLICES, "general")},
        "paired_difference": {
            "mean": round(difference.mean, 4),
            "ci95": _bounds(difference),
        },
        "overlap": corpus["overlap"],
        "corpus_fingerprint": corpus["fingerprint"],
        "num_train_pairs": corpus["num_train_pairs"],
        "num_train_tokens": sum(facts["num_tokens"] for facts in trained),
        "num_test_queries": corpus["num_test_queries"],
        "num_pool_documents": corpus["num_pool_documents"],
        "truncated_share": findings.facts(config.final)["truncated_share"],
        "kept": findings.facts(config.merge)["kept"],
        "parity": findings.facts(config.export)["parity"],
        "seconds": round(sum(stage.seconds for stage in stages), 1),
        "peak_rss_mb": max(stage.peak_rss_mb for stage in stages),
    }


def _system(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {key: row[key] for key in (*METRICS, "ci95")}


def _slice(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    rows: dict[str, Any] = {"num_queries": comparison.num_queries}
    for side, values in (("base", comparison.base), ("final", comparison.final)):
        rows[side] = {metric: round(float(np.mean(values[metric])), 4) for metric in METRICS}
        rows[side]["ci95"] = _bounds(comparison.interval(side))
    rows["paired_difference"] = {
        "mean": round(comparison.difference.mean, 4),
        "ci95": _bounds(comparison.difference),
    }
    return rows


def _bounds(interval: Interval) -> list[float]:
    return [round(interval.low, 4), round(interval.high, 4)]
