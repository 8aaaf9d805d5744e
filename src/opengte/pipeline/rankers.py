"""Teachers and rerankers that a stage names -> ready to score."""

from __future__ import annotations

from pathlib import Path

from opengte.contracts import Reranker
from opengte.errors import ConfigError
from opengte.mining.bm25_teacher import BM25Teacher
from opengte.mining.teachers import EncoderTeacher, RerankingTeacher, Teacher
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import RerankTrainStage, TeacherConfig
from opengte.search.cached_encoder import CachedEncoder


def open_teacher(config: TeacherConfig, context: StageContext, *, first: str | None) -> Teacher:
    """The teacher that a stage names.

    Args:
        config: which.
        context: of the stage.
        first: the model that ranks before a reranker reads; None = BM25.

    Raises:
        ConfigError: a stage that left another kind of model than the teacher is to be.
    """
    if config.kind == "bm25":
        return BM25Teacher(tokenizer="code")
    folder = teacher_folder(config, context)
    if config.kind == "encoder":
        encoder = context.load_encoder(folder, config.max_tokens or context.backbone.max_tokens)
        return EncoderTeacher(CachedEncoder(encoder, context.run_folder / "cache"))
    from opengte.model_folder import ModelFolder

    return RerankingTeacher(
        BM25Teacher(tokenizer="code") if first is None else EncoderTeacher(context.encoder(first)),
        load_reranker(folder, config.kind, max_tokens=config.max_tokens),
        name=ModelFolder.read(folder).revision,
        depth=config.depth,
    )


def teacher_folder(config: TeacherConfig, context: StageContext) -> Path:
    """The folder of a teacher's model."""
    if config.model is not None:
        return context.find_model(config.model)
    assert config.stage is not None
    stage = context.stages.get(config.stage)
    form = stage.form if isinstance(stage, RerankTrainStage) else "encoder"
    if form != config.kind:
        raise ConfigError(
            f"stages.{context.name}.teacher.kind is {config.kind}, but stage {config.stage!r} "
            f"leaves a model of kind {form}"
        )
    return context.model_folder(config.stage)


def open_reranker(reference: str, context: StageContext) -> Reranker | None:
    """The reranker that a stage left; None where it left an encoder."""
    stage = context.stages.get(reference)
    if not isinstance(stage, RerankTrainStage):
        return None
    return load_reranker(context.model_folder(reference), stage.form, stage.instruction)


def load_reranker(
    folder: Path, kind: str, instruction: str = "", *, max_tokens: int | None = None
) -> Reranker:
    """Open a reranker's folder; ``kind`` is ``cross_encoder`` or ``yes_no``."""
    if kind == "cross_encoder":
        from opengte.models.cross_encoder_folder import load_cross_encoder

        return load_cross_encoder(folder, max_tokens=max_tokens)
    from opengte.models.reranker import DEFAULT_INSTRUCTION
    from opengte.models.reranker_folder import load_yes_no_reranker

    return load_yes_no_reranker(
        folder, instruction=instruction or DEFAULT_INSTRUCTION, max_tokens=max_tokens or 8192
    )
