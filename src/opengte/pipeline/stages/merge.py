"""The merge stage: candidates and mixtures of them with an anchor -> the one dev prefers.

A candidate that loses more than the allowed points on the general slice is not taken, whatever it
gains; if none is left, the anchor itself is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from opengte.pipeline.measure import HeldOutSet, measure
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import MergeStage
from opengte.pipeline.stages.evaluate import general_slice

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


def run(config: MergeStage, context: StageContext) -> Mapping[str, Any]:
    """Measure every candidate at every weight on dev; save the best that is allowed."""
    from opengte.models.merging import interpolate
    from opengte.models.weights import load_encoder, save_encoder

    dev = HeldOutSet.read(context.results[config.data].output / "dev", "dev")
    general = HeldOutSet.read(general_slice(), "dev")
    max_tokens = context.backbone.max_tokens
    anchor = load_encoder(context.model_folder(config.anchor), max_tokens=max_tokens)
    rows = [_row(config.anchor, 1.0, anchor, dev, general)]
    for name in config.candidates:
        candidate = load_encoder(context.model_folder(name), max_tokens=max_tokens)
        for weight in config.weights:
            mixed = candidate if weight == 1.0 else interpolate(candidate, anchor, weight)
            rows.append(_row(name, weight, mixed, dev, general))
            context.console.line(_line(rows[-1]))
    floor = rows[0]["general"] - config.max_general_loss
    allowed = [row for row in rows if row["general"] >= floor]
    kept = max(allowed, key=lambda row: row["dev"])
    chosen = load_encoder(context.model_folder(kept["model"]), max_tokens=max_tokens)
    if kept["weight"] != 1.0:
        chosen = interpolate(chosen, anchor, kept["weight"])
    save_encoder(chosen, context.output)
    context.console.line(f"  kept: {kept['model']} at weight {kept['weight']:g}")
    return {"kept": kept, "candidates": rows, "max_general_loss": config.max_general_loss}


def _row(
    name: str, weight: float, encoder: Encoder, dev: HeldOutSet, general: HeldOutSet
) -> dict[str, Any]:
    return {
        "model": name,
        "weight": weight,
        "dev": _mean_mrr(dev, encoder),
        "general": _mean_mrr(general, encoder),
    }


def _mean_mrr(held_out: HeldOutSet, encoder: Encoder) -> float:
    measured = measure(held_out, encoder, with_masked=False)
    values = measured.per_query["dense"]["mrr@10"]
    return round(float(np.mean([values[query] for query in held_out.slices["all"]])), 4)


def _line(row: Mapping[str, Any]) -> str:
    return (
        f"  {row['model']} x {row['weight']:g}: dev MRR@10 {row['dev']:.4f}, "
        f"general {row['general']:.4f}"
    )
