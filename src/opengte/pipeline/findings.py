"""The stages of a finished run -> what they found, compared query by query.

``summary.json`` and the report page are both made from a ``Findings``, so that they cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opengte.metrics.bootstrap import Interval, clustered_interval, paired_difference
from opengte.pipeline.measure import METRICS, HeldOutSet
from opengte.pipeline.runner import StageResult
from opengte.pipeline.stage_configs import ReportStage
from opengte.pipeline.stages.evaluate import general_slice

HEADLINE = "mrr@10"
SLICES = ("all", "name_masked", "low_overlap", "unseen_package")
SYSTEMS = ("bm25", "base", "hybrid_base", "stage1", "final", "hybrid_final")


@dataclass(frozen=True)
class Comparison:
    """Base and final on the same queries.

    Attributes:
        base, final: metric -> values, in the order of the queries.
        clusters: the group of every query.
    """

    base: Mapping[str, list[float]]
    final: Mapping[str, list[float]]
    clusters: list[str]

    @property
    def num_queries(self) -> int:
        """How many queries were asked."""
        return len(self.clusters)

    def interval(self, side: str) -> Interval:
        """MRR@10 of ``base`` or ``final``."""
        values = self.base if side == "base" else self.final
        return clustered_interval(values[HEADLINE], self.clusters)

    @property
    def difference(self) -> Interval:
        """MRR@10 of final less that of base, paired."""
        return paired_difference(self.final[HEADLINE], self.base[HEADLINE], self.clusters)


@dataclass(frozen=True)
class Findings:
    """Everything that a run's reports say.

    Attributes:
        config: the report stage's settings.
        results: every stage before it.
        held_out: the test set.
        details: evaluation stage (``base``, ``stage1``, ``final``) -> its ``details.json``.
        comparisons: slice -> base against final; ``general`` is one of them.
    """

    config: ReportStage
    results: Mapping[str, StageResult]
    held_out: HeldOutSet
    details: Mapping[str, Any]
    comparisons: Mapping[str, Comparison]

    def facts(self, stage: str) -> Mapping[str, Any]:
        """What a stage said it did."""
        return self.results[stage].facts

    @property
    def systems(self) -> dict[str, Mapping[str, Any]]:
        """The table of systems: name -> metrics and interval."""
        base = self.facts(self.config.base)["systems"]
        final = self.facts(self.config.final)["systems"]
        rows = {
            "bm25": base.get("bm25"),
            "base": base.get("dense"),
            "hybrid_base": base.get("hybrid"),
            "stage1": self.facts(self.config.stage1)["systems"].get("dense"),
            "final": final.get("dense"),
            "hybrid_final": final.get("hybrid"),
        }
        return {name: rows[name] for name in SYSTEMS if rows[name]}

    @property
    def training_stages(self) -> list[str]:
        """The training stages, in the order in which they ran."""
        named = [self.config.pretraining, self.config.finetuning]
        return [name for name in named if name is not None]


def find(config: ReportStage, results: Mapping[str, StageResult]) -> Findings:
    """Read what the evaluation stages left."""
    held_out = HeldOutSet.read(results[config.corpus].output / "test", "test")
    details = {
        role: _read_json(results[stage].output / "details.json")
        for role, stage in (
            ("base", config.base),
            ("stage1", config.stage1),
            ("final", config.final),
        )
    }
    comparisons = {}
    for name in SLICES:
        queries = list(held_out.slices.get(name, ()))
        if not queries:
            continue
        masked = name == "name_masked" and "name_masked" in details["base"]["test"]["per_query"]
        system = "name_masked" if masked else "dense"
        comparisons[name] = _compare(
            details["base"]["test"]["per_query"][system],
            details["final"]["test"]["per_query"][system],
            queries,
            held_out.groups,
        )
    if "general" in details["base"] and "general" in details["final"]:
        general = HeldOutSet.read(general_slice(), "test")
        comparisons["general"] = _compare(
            details["base"]["general"]["per_query"],
            details["final"]["general"]["per_query"],
            list(general.slices["all"]),
            general.groups,
        )
    return Findings(config, results, held_out, details, comparisons)


def _compare(
    base: Mapping[str, Mapping[str, float]],
    final: Mapping[str, Mapping[str, float]],
    queries: Sequence[str],
    groups: Mapping[str, str],
) -> Comparison:
    return Comparison(
        {metric: [base[metric][query] for query in queries] for metric in METRICS},
        {metric: [final[metric][query] for query in queries] for metric in METRICS},
        [groups[query] for query in queries],
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
