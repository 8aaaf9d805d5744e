"""Stages that make models: contrastive training, language modelling, distillation, heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from opengte.data.mixture import MixtureConfig
from opengte.data.mixture_config import LengthBucket
from opengte.losses.config import LossConfig
from opengte.losses.contrastive_config import ImprovedContrastiveConfig
from opengte.losses.distillation import EmbeddingMSEConfig
from opengte.losses.sparse import SparseConfig
from opengte.mining.dynamic import DynamicConfig
from opengte.mining.remine import RemineConfig
from opengte.models.score_head import HeadKind
from opengte.pipeline.stage_configs.backbone import HardwareSettings, RopeSettings
from opengte.pipeline.stage_configs.preparing import FromPairs
from opengte.pipeline.stage_configs.settings import ModelReference, Settings
from opengte.pipeline.stage_configs.sources import TeacherConfig, TextsConfig
from opengte.training.config import TrainingConfig

Loss = Annotated[LossConfig, Field(discriminator="kind")]


class Learning(Settings):
    """What every stage has that trains.

    Attributes:
        model: what is trained on from.
        max_training_tokens: the budget where neither ``training`` nor ``epochs`` names one.
        epochs: passes over all rows.
        max_tokens: longest input in this stage; None = the backbone's.
        rope: rotary positions changed before this stage, and kept.
        hardware: in a plan; None = the recipe's.
        training: how.
    """

    model: ModelReference
    max_training_tokens: int = Field(default=750_000, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, ge=8, le=32768)
    rope: RopeSettings | None = None
    hardware: HardwareSettings | None = None
    training: TrainingConfig = TrainingConfig()
    output: str | None = None

    @model_validator(mode="after")
    def _says_once_how_long(self) -> Learning:
        given = (self.training.num_steps, self.training.max_training_tokens, self.epochs)
        if sum(value is not None for value in given) > 1:
            raise ValueError(
                "epochs, training.num_steps and training.max_training_tokens all say how long to "
                "train; give one of them"
            )
        return self


class RefreshSettings(Settings):
    """Hard negatives replaced while the model learns; one of the two.

    Attributes:
        dynamic: Conan's rule, from the ranked list of the mine stage.
        remine: ANCE's, mined anew with the model as it stands.
    """

    dynamic: DynamicConfig | None = None
    remine: RemineConfig | None = None

    @model_validator(mode="after")
    def _names_one(self) -> RefreshSettings:
        if (self.dynamic is None) == (self.remine is None):
            raise ValueError("give dynamic or remine, one of the two")
        return self


class ContrastiveStage(Learning, FromPairs):
    """Pairs -> a better encoder.

    Attributes:
        loss, mixture: settings of those rooms.
        sparse: trains the sparse head too.
        refresh: hard negatives replaced during training; ``pairs`` is then a mine stage.
        snapshots: shares of the run whose encoders are kept: ``STAGE@0.8`` in later stages.
    """

    kind: Literal["contrastive"]
    loss: Loss = ImprovedContrastiveConfig()
    mixture: MixtureConfig = MixtureConfig()
    sparse: SparseConfig | None = None
    refresh: RefreshSettings | None = None
    snapshots: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _can_refresh(self) -> ContrastiveStage:
        if self.refresh is not None and self.pairs is None:
            raise ValueError("refresh needs pairs: a mine stage, whose candidates it goes back to")
        if any(not 0 < share < 1 for share in self.snapshots):
            raise ValueError(f"snapshots are shares of the run in (0, 1), got {self.snapshots}")
        return self


class DistillStage(Learning, FromPairs):
    """Pairs and a teacher -> an encoder that embeds or scores as the teacher does.

    Attributes:
        teacher: gives embeddings (``embedding_mse``) or scores (``kl_distillation``,
            ``margin_mse``).
        loss, mixture: settings of those rooms.
        project: where sizes differ, a linear layer brings the student's to the teacher's; it
            stays part of the model.
        snapshots: as in a contrastive stage.
    """

    kind: Literal["distill"]
    teacher: TeacherConfig
    loss: Loss = EmbeddingMSEConfig()
    mixture: MixtureConfig = MixtureConfig()
    project: bool = True
    snapshots: tuple[float, ...] = ()


class TextLearning(Learning):
    """What both stages have that learn from plain texts.

    Attributes:
        texts: named sources.
        alpha: of their shares.
        batch_size: texts of a step.
        held_out: texts whose loss is measured before and after.
    """

    texts: Mapping[str, TextsConfig] = Field(min_length=1)
    alpha: float = Field(default=0.5, ge=0, le=10)
    batch_size: int = Field(default=32, ge=1)
    held_out: int = Field(default=64, ge=2)


class MlmStage(TextLearning):
    """Texts -> a backbone that guesses hidden tokens; mGTE: 30 % hidden, no next sentence.

    Attributes:
        mask_share: of the tokens that must be guessed (BERT 0.15, mGTE 0.3).
        mask_token_share, random_token_share: of these, shown as ``[MASK]``, or as a random
            token; the rest is shown as it is (BERT 0.8 and 0.1).
    """

    kind: Literal["mlm"]
    mask_share: float = Field(default=0.15, gt=0, lt=1)
    mask_token_share: float = Field(default=0.8, ge=0, le=1)
    random_token_share: float = Field(default=0.1, ge=0, le=1)


class RetroMaeStage(TextLearning):
    """Texts -> a backbone whose embedding lets a light decoder rebuild the text (BGE).

    Attributes:
        encoder_mask_share, decoder_mask_share: of the tokens hidden from each (BGE 0.3, 0.5).
        enhanced: the decoder predicts every token, each from its own sample of the others.
    """

    kind: Literal["retromae"]
    encoder_mask_share: float = Field(default=0.3, gt=0, lt=1)
    decoder_mask_share: float = Field(default=0.5, gt=0, lt=1)
    enhanced: bool = True


class RerankTrainStage(Learning, FromPairs):
    """Pairs with negatives -> a reranker.

    Attributes:
        form: ``cross_encoder`` (a head on the first token) or ``yes_no`` (Qwen3).
        head: of a cross-encoder.
        list_size: candidates of a query: the positive, its negatives, and as many documents of
            other pairs as are missing (mGTE: 1 + 6 hard + 4 random).
        batch_size: lists of a step.
        length_table: batch sizes by length, in the place of ``batch_size``.
        instruction: of ``yes_no``; empty = Qwen3's default.
    """

    kind: Literal["rerank-train"]
    form: Literal["cross_encoder", "yes_no"] = "cross_encoder"
    head: HeadKind = "linear"
    list_size: int = Field(default=8, ge=2)
    batch_size: int = Field(default=32, ge=1)
    length_table: tuple[LengthBucket, ...] = ()
    instruction: str = ""


class ClassifyTrainStage(Learning):
    """Labelled texts, or labelled pairs of texts -> an encoder with a classifier on top.

    Attributes:
        data: rows ``text, label`` or ``sentence1, sentence2, label``: a file, or a folder of
            ``train`` and ``test``.
        num_rows: as published.
        inputs: what is classified.
        labels: names of the classes in order; ``()`` = as found.
        train_backbone: learn below the classifier too.
        batch_size: rows of a step.
        held_out: share of the rows that is measured, where there is no ``test``.
    """

    kind: Literal["classify-train"]
    data: str | None = None
    num_rows: int | None = Field(default=None, ge=1)
    inputs: Literal["text", "pair"] = "text"
    labels: tuple[str, ...] = ()
    train_backbone: bool = True
    batch_size: int = Field(default=32, ge=1)
    held_out: float = Field(default=0.1, gt=0, lt=1)
