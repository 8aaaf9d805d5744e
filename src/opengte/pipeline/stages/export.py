"""The export stage: a model -> files that other tools open, checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import ExportStage
from opengte.pipeline.trained_on import carry_manifests

CHECK_TEXTS = ("a short text", "def add(a, b):\n    return a + b", "GTE " * 40)


def run(config: ExportStage, context: StageContext) -> Mapping[str, Any]:
    """Export, and record how far the vectors differ."""
    if config.format == "safetensors":
        return _write_folder(config, context)
    from opengte.export.onnx import export_onnx
    from opengte.models.weights import load_encoder

    encoder = load_encoder(
        context.model_folder(config.model), max_tokens=context.backbone.max_tokens, dtype="float32"
    )
    parity = asdict(export_onnx(encoder, context.output))
    carry_manifests([config.model], context)
    context.console.line(
        f"  {config.format}: largest difference {parity['max_abs_difference']:.1e}, "
        f"least cosine {parity['min_cosine']:.7f}"
    )
    return {"format": config.format, "parity": parity}


def _write_folder(config: ExportStage, context: StageContext) -> Mapping[str, Any]:
    """The sentence-transformers layout, in a place of its own."""
    from opengte.models.weights import load_encoder, save_encoder

    folder = context.model_folder(config.model)
    encoder = load_encoder(folder, max_tokens=context.backbone.max_tokens, dtype="float32")
    save_encoder(encoder, context.output)
    carry_manifests([config.model], context)
    again = load_encoder(context.output, dtype="float32")
    difference = float(np.abs(again.encode(CHECK_TEXTS) - encoder.encode(CHECK_TEXTS)).max())
    context.console.line(f"  {config.format}: largest difference {difference:.1e}")
    return {"format": config.format, "parity": {"max_abs_difference": difference}}
