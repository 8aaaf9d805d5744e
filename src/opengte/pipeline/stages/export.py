"""The export stage: a model -> ONNX, checked against the model it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import ExportStage


def run(config: ExportStage, context: StageContext) -> Mapping[str, Any]:
    """Export, and record how far the vectors differ."""
    from opengte.export.onnx import export_onnx
    from opengte.models.weights import load_encoder

    encoder = load_encoder(
        context.model_folder(config.model), max_tokens=context.backbone.max_tokens, dtype="float32"
    )
    parity = asdict(export_onnx(encoder, context.output))
    context.console.line(
        f"  {config.format}: largest difference {parity['max_abs_difference']:.1e}, "
        f"least cosine {parity['min_cosine']:.7f}"
    )
    return {"format": config.format, "parity": parity}
