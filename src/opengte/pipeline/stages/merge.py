"""The merge stage: several models -> one, mixed by weight, or the one that dev prefers.

Selection measures candidates and mixtures of them with an anchor.
A candidate that loses more than the allowed points on the general slice is not taken, whatever it
gains; if none is left, the anchor itself is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from opengte.pipeline.measure import HeldOutSet, measure
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import MergeStage
from opengte.pipeline.stages.evaluate import general_slice
from opengte.pipeline.trained_on import carry_manifests

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


def run(config: MergeStage, context: StageContext) -> Mapping[str, Any]:
    """Choose by dev, or mix."""
    return _select(config, context) if config.method == "select" else _mix(config, context)


def _mix(config: MergeStage, context: StageContext) -> Mapping[str, Any]:
    """One model out of several, by arithmetic on their weights."""
    from opengte.models.merging import angles, merge_linear, merge_slerp
    from opengte.models.weights import save_encoder

    shares = list(config.shares or [1.0] * len(config.models))
    shares = [share / sum(shares) for share in shares]
    load = _Loader(context)
    encoders = [load(name) for name in config.models]
    between = angles(encoders[0], encoders[-1])
    merge = merge_slerp if config.method == "slerp" else merge_linear
    save_encoder(merge(encoders, shares), context.output)
    carry_manifests(config.models, context)
    told = ", ".join(f"{n} {s:.0%}" for n, s in zip(config.models, shares, strict=True))
    context.console.line(
        f"  {config.method}: {told}; first and last lie {between.largest:.4f} rad apart at most"
    )
    return {
        "method": config.method,
        "models": list(config.models),
        "shares": [round(share, 6) for share in shares],
        "angles": {"mean": between.mean, "largest": between.largest},
    }


def _select(config: MergeStage, context: StageContext) -> Mapping[str, Any]:
    """Measure every candidate at every weight on dev; save the best that is allowed.

    The general slice is asked about candidates in the order of their dev scores, and only until
    one is allowed.
    """
    from opengte.models.weights import save_encoder

    assert config.data is not None
    assert config.anchor is not None
    dev = HeldOutSet.read(context.results[config.data].output / "dev", "dev")
    general = HeldOutSet.read(general_slice(), "dev")
    make = _Maker(config.anchor, context)
    rows: list[dict[str, Any]] = []
    for name, weight in [(config.anchor, 1.0), *product(config.candidates, config.weights)]:
        score = _mean_mrr(dev, make(name, weight))
        rows.append({"model": name, "weight": weight, "dev": score, "general": None})
        context.console.line(f"  {name} x {weight:g}: dev MRR@10 {score:.4f}")
    anchor = rows[0]
    anchor["general"] = _mean_mrr(general, make(config.anchor, 1.0))
    kept = anchor
    for row in sorted(rows, key=lambda row: -row["dev"]):
        if row is not anchor:
            row["general"] = _mean_mrr(general, make(row["model"], row["weight"]))
        if row["general"] >= anchor["general"] - config.max_general_loss:
            kept = row
            break
    save_encoder(make(kept["model"], kept["weight"]), context.output)
    made_of = {kept["model"]} if kept["weight"] == 1.0 else {kept["model"], config.anchor}
    carry_manifests(made_of, context)
    context.console.line(
        f"  kept: {kept['model']} x {kept['weight']:g}; general MRR@10 "
        f"{anchor['general']:.4f} -> {kept['general']:.4f}"
    )
    return {"kept": kept, "candidates": rows, "max_general_loss": config.max_general_loss}


class _Loader:
    """Opens the models that the stage names."""

    def __init__(self, context: StageContext) -> None:
        self._context = context

    def __call__(self, name: str) -> Encoder:
        from opengte.models.weights import load_encoder

        folder = self._context.model_folder(name)
        return load_encoder(folder, max_tokens=self._context.backbone.max_tokens)


class _Maker:
    """Makes a candidate, interpolated with the anchor."""

    def __init__(self, anchor: str, context: StageContext) -> None:
        self._load = _Loader(context)
        self._anchor = self._load(anchor)

    def __call__(self, name: str, weight: float) -> Encoder:
        from opengte.models.merging import interpolate

        candidate = self._load(name)
        return candidate if weight == 1.0 else interpolate(candidate, self._anchor, weight)


def _mean_mrr(held_out: HeldOutSet, encoder: Encoder) -> float:
    measured = measure(held_out, encoder, with_masked=False)
    values = measured.per_query["dense"]["mrr@10"]
    return round(float(np.mean([values[query] for query in held_out.slices["all"]])), 4)
