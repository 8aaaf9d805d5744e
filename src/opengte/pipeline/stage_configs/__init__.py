"""The typed settings of every kind of stage.

Settings that belong to a room (a loss, a mixture, mining rules, the training loop) are that
room's own dataclasses; what stands here says which stage feeds which, and what is kept.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from opengte.pipeline.stage_configs.backbone import BackboneConfig, HardwareSettings
from opengte.pipeline.stage_configs.finishing import (
    EvaluateStage,
    ExportStage,
    IndexStage,
    MergeStage,
    ReportStage,
)
from opengte.pipeline.stage_configs.learning import (
    ClassifyTrainStage,
    ContrastiveStage,
    DistillStage,
    MlmStage,
    RerankTrainStage,
    RetroMaeStage,
)
from opengte.pipeline.stage_configs.preparing import (
    CorpusStage,
    FilterStage,
    MineStage,
    SplitStage,
    SynthesizeStage,
)
from opengte.pipeline.stage_configs.settings import split_snapshot, stage_references
from opengte.pipeline.stage_configs.sources import SourceConfig, TeacherConfig

StageConfig = Annotated[
    CorpusStage
    | SplitStage
    | SynthesizeStage
    | FilterStage
    | MineStage
    | MlmStage
    | RetroMaeStage
    | ContrastiveStage
    | DistillStage
    | RerankTrainStage
    | ClassifyTrainStage
    | MergeStage
    | EvaluateStage
    | ExportStage
    | IndexStage
    | ReportStage,
    Field(discriminator="kind"),
]

__all__ = [
    "BackboneConfig",
    "ClassifyTrainStage",
    "ContrastiveStage",
    "CorpusStage",
    "DistillStage",
    "EvaluateStage",
    "ExportStage",
    "FilterStage",
    "HardwareSettings",
    "IndexStage",
    "MergeStage",
    "MineStage",
    "MlmStage",
    "ReportStage",
    "RerankTrainStage",
    "RetroMaeStage",
    "SourceConfig",
    "SplitStage",
    "StageConfig",
    "SynthesizeStage",
    "TeacherConfig",
    "split_snapshot",
    "stage_references",
]
