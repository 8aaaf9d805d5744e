"""A recipe that states its shapes and sizes -> steps, tokens and memory per GPU, read off it alone.

Neither the model nor the data need be there, and nothing is measured: the same recipe gives the
same plan on every machine. What the figures rest on:

- tokens are an upper bound: every text as long as the stage allows;
- states: weights and gradients in float32 and AdamW's two moments, 16 bytes a parameter, shared
  over the GPUs as ZeRO's stages or FSDP share them; adapters train alone over frozen weights;
- activations: of one micro-batch, 34 bytes a token, layer and hidden unit in 16 bits (Korthikanti
  et al. 2022, eq. 2, attention computed in tiles), a layer's input alone with checkpointing; the
  gradient cache keeps no more than one micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from opengte.pipeline.recipe import BASE, Recipe
from opengte.pipeline.stage_configs import (
    ClassifyTrainStage,
    ContrastiveStage,
    DistillStage,
    HardwareSettings,
    MineStage,
    RerankTrainStage,
    SynthesizeStage,
)
from opengte.pipeline.stage_configs.learning import Learning, TextLearning
from opengte.pipeline.stage_configs.preparing import FromPairs
from opengte.training.config import TrainingConfig

GIB = 2**30
ACTIVATION_BYTES = 34
"""A token, layer and hidden unit, in 16-bit numbers."""
WEIGHT_BYTES, GRADIENT_BYTES, MOMENT_BYTES = 4, 4, 8
EMBEDDING_COPIES = 3
"""Copies of the batch's embeddings: the leaf, what is gathered, and its gradient."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of a plan.

    Attributes:
        name, kind: which.
        num_rows: of one pass over its data; None where the recipe does not say.
        batch_size: rows of a step, over all GPUs.
        num_steps: of the optimiser.
        max_tokens: read in all steps at most.
        max_input: longest text, in tokens.
        num_gpus: that share it.
        memory_gib: of one GPU; None where nothing is trained.
        note: what does not fit, or is not known.
    """

    name: str
    kind: str
    num_rows: int | None = None
    batch_size: int | None = None
    num_steps: int | None = None
    max_tokens: int | None = None
    max_input: int | None = None
    num_gpus: int | None = None
    memory_gib: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """What a recipe takes.

    Attributes:
        recipe, reference: its name and the paper it follows.
        num_parameters: of the backbone and the layers above it.
        stages: in their order.
    """

    recipe: str
    reference: str
    num_parameters: int
    stages: tuple[StagePlan, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return asdict(self)


@dataclass(frozen=True)
class Sizes:
    """What memory depends on.

    Attributes:
        num_parameters: in all.
        num_layers, hidden_size: of the backbone.
        linear_sizes: inputs plus outputs of all linear layers of the backbone, added up: what
            adapters of rank 1 hold.
        dimensions: of an embedding.
    """

    num_parameters: int
    num_layers: int
    hidden_size: int
    linear_sizes: int
    dimensions: int


def make_plan(recipe: Recipe) -> Plan:
    """Plan every stage of a recipe whose backbone has a shape.

    Raises:
        ModelFolderError: the shape is of an unknown architecture.
    """
    sizes = backbone_sizes(recipe)
    stages = tuple(_plan_stage(recipe, name, sizes) for name in recipe.stages)
    return Plan(recipe.name, recipe.reference, sizes.num_parameters, stages)


def backbone_sizes(recipe: Recipe) -> Sizes:
    """Sizes of the recipe's shape, from a model without weights."""
    from opengte.models.architectures import clean_config, transformers_config
    from opengte.models.planning import weight_shapes
    from opengte.models.transformers_backbone import quietly

    backbone = recipe.backbone
    shape = dict(backbone.shape)
    if backbone.pad_vocabulary_to and "vocab_size" in shape:
        multiple = backbone.pad_vocabulary_to
        shape["vocab_size"] = -(-int(shape["vocab_size"]) // multiple) * multiple
    with quietly():  # a small vocabulary does not hold the special ids of a large one
        config = transformers_config(clean_config(shape))
        shapes = weight_shapes(shape)
    hidden = int(config.hidden_size)
    dimensions = backbone.dense.out_features if backbone.dense else hidden
    extra = hidden * dimensions + dimensions if backbone.dense else 0
    if backbone.latent_attention is not None:
        latent = backbone.latent_attention
        inner = latent.num_heads * latent.head_size
        extra += latent.num_latents * latent.latent_size + inner * (
            2 * hidden + 2 * latent.latent_size
        )
        extra += 3 * latent.feed_forward_multiple * hidden * hidden
    linear = sum(sum(s) for n, s in shapes.items() if len(s) == 2 and "embed" not in n)
    return Sizes(
        num_parameters=sum(math.prod(s) for s in shapes.values()) + extra,
        num_layers=int(config.num_hidden_layers),
        hidden_size=hidden,
        linear_sizes=linear,
        dimensions=dimensions,
    )


def _plan_stage(recipe: Recipe, name: str, sizes: Sizes) -> StagePlan:
    stage = recipe.stages[name]
    if not isinstance(stage, Learning):
        return StagePlan(name, stage.kind, num_rows=_rows_of_stage(recipe, name))
    rows = _rows_to_learn(recipe, stage)
    batch, texts = _batch(stage)
    longest = stage.max_tokens or recipe.backbone.max_tokens
    tokens_per_step = round(batch * _tokens_per_row(stage, longest))
    steps = _steps(stage, rows, batch, tokens_per_step)
    hardware = stage.hardware or recipe.hardware
    memory = _memory(stage.training, sizes, hardware, longest, batch * texts / hardware.num_gpus)
    notes = []
    if steps is None:
        notes.append("epochs are given, but not how many rows")
    if memory > hardware.memory_gib:
        notes.append(f"does not fit into {hardware.memory_gib:g} GiB")
    return StagePlan(
        name,
        stage.kind,
        num_rows=rows,
        batch_size=batch,
        num_steps=steps,
        max_tokens=None if steps is None else steps * tokens_per_step,
        max_input=longest,
        num_gpus=hardware.num_gpus,
        memory_gib=round(memory, 1),
        note="; ".join(notes),
    )


def _rows_to_learn(recipe: Recipe, stage: Learning) -> int | None:
    if isinstance(stage, TextLearning):
        return _sum(texts.num_texts for texts in stage.texts.values())
    if isinstance(stage, ClassifyTrainStage):
        return stage.num_rows
    return _rows_of_pairs(recipe, stage) if isinstance(stage, FromPairs) else None


def _rows_of_pairs(recipe: Recipe, stage: FromPairs) -> int | None:
    made = [] if stage.pairs is None else [_rows_of_stage(recipe, stage.pairs)]
    own = [
        None
        if source.num_pairs is None
        else min(source.num_pairs, source.max_pairs or source.num_pairs)
        for source in stage.sources.values()
    ]
    return _sum([*made, *own])


def _rows_of_stage(recipe: Recipe, name: str) -> int | None:
    """Pairs that a stage leaves, at most."""
    stage = recipe.stages.get(name) if name != BASE else None
    if isinstance(stage, SynthesizeStage):
        return stage.num_pairs
    if isinstance(stage, MineStage):
        rows = _rows_of_pairs(recipe, stage)
        return None if rows is None else min(rows, stage.max_queries)
    if isinstance(stage, FromPairs):
        return _rows_of_pairs(recipe, stage)
    return getattr(stage, "max_pairs", None)


def _sum(values: Any) -> int | None:
    """None as soon as one is not known."""
    known = list(values)
    return None if None in known else sum(known)


def _batch(stage: Learning) -> tuple[int, float]:
    """Rows of a step, and texts of a row that are embedded or read."""
    if isinstance(stage, ContrastiveStage | DistillStage):
        return stage.mixture.batch_size, 2.0 + (stage.mixture.max_negatives or 0)
    if isinstance(stage, RerankTrainStage):
        return stage.batch_size, float(stage.list_size)
    if isinstance(stage, ClassifyTrainStage):
        return stage.batch_size, 2.0 if stage.inputs == "pair" else 1.0
    assert isinstance(stage, TextLearning)
    return stage.batch_size, 1.0


def _tokens_per_row(stage: Learning, longest: int) -> float:
    training = stage.training
    if isinstance(stage, ContrastiveStage | DistillStage):
        query = min(longest, training.query_max_tokens or longest)
        document = min(longest, training.document_max_tokens or longest)
        return query + document * (1 + (stage.mixture.max_negatives or 0))
    return longest * _batch(stage)[1]


def _steps(stage: Learning, rows: int | None, batch: int, tokens_per_step: int) -> int | None:
    if stage.training.num_steps is not None:
        return stage.training.num_steps
    if stage.epochs is not None:
        return None if rows is None else max(1, math.ceil(stage.epochs * rows / batch))
    budget = stage.training.max_training_tokens or stage.max_training_tokens
    return max(1, round(budget / tokens_per_step))


def _memory(
    training: TrainingConfig,
    sizes: Sizes,
    hardware: HardwareSettings,
    longest: int,
    texts_per_gpu: float,
) -> float:
    """GiB of one GPU."""
    states = _state_bytes(training, sizes, hardware.num_gpus)
    wide = 2 if training.precision == "float32" else 1
    tokens = max(longest, training.micro_batch_tokens)
    per_layer = tokens * sizes.hidden_size * wide
    if training.gradient_checkpointing:
        activations = per_layer * (2 * sizes.num_layers + ACTIVATION_BYTES)
    else:
        activations = per_layer * ACTIVATION_BYTES * sizes.num_layers
    embeddings = (
        texts_per_gpu * hardware.num_gpus * sizes.dimensions * WEIGHT_BYTES * EMBEDDING_COPIES
    )
    return float((states + activations + embeddings) / GIB)


def _state_bytes(training: TrainingConfig, sizes: Sizes, num_gpus: int) -> float:
    learned = sizes.num_parameters
    if training.lora is not None:
        learned = training.lora.rank * sizes.linear_sizes
    elif "backbone" in training.frozen:
        learned = 0
    parts: Mapping[str, float] = {
        "weights": WEIGHT_BYTES * sizes.num_parameters
        + (WEIGHT_BYTES * learned if training.lora is not None else 0),
        "gradients": GRADIENT_BYTES * learned,
        "moments": MOMENT_BYTES * learned,
    }
    return sum(
        value / num_gpus if name in _shared_parts(training) else value
        for name, value in parts.items()
    )


def _shared_parts(training: TrainingConfig) -> tuple[str, ...]:
    if training.strategy == "fsdp":
        return ("weights", "gradients", "moments")
    if training.strategy == "deepspeed":
        return ("moments", "gradients", "weights")[: training.deepspeed_stage]
    return ()
