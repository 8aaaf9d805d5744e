"""The mlm stage: texts -> a backbone that guesses hidden tokens.

mGTE's extension to longer texts is two such stages: 2048 tokens first, then 8192 with another
base of the rotary positions. The second goes on with the first one's head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opengte.pipeline.language_stage import train_on_texts
from opengte.pipeline.learning import longest_input
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import MlmStage

if TYPE_CHECKING:
    from torch import nn

    from opengte.models.encoder import Encoder
    from opengte.training.language_objectives import MlmObjective


def run(config: MlmStage, context: StageContext) -> Mapping[str, Any]:
    """Train the backbone and its head."""
    return train_on_texts(
        config,
        context,
        make_objective=lambda encoder: make_objective(config, context, encoder),
        make_model=lambda encoder: make_model(config, context, encoder),
        save=lambda encoder, model: save_model(encoder, model, context),
    )


def make_objective(config: MlmStage, context: StageContext, encoder: Encoder) -> MlmObjective:
    """What is hidden."""
    from opengte.training.language_objectives import MlmObjective
    from opengte.training.masking import MaskingRules

    return MlmObjective(
        encoder.tokenizer,
        MaskingRules(
            share=config.mask_share,
            mask_token_share=config.mask_token_share,
            random_token_share=config.random_token_share,
        ),
        max_tokens=longest_input(config, context),
        micro_batch_tokens=config.training.micro_batch_tokens,
        seed=context.seed,
    )


def make_model(config: MlmStage, context: StageContext, encoder: Encoder) -> nn.Module:
    """The encoder's own backbone under a head."""
    from opengte.models.masked_language_model import MaskedLanguageModel
    from opengte.models.token_head import open_token_head
    from opengte.models.weights import read_tensors
    from opengte.training.random_state import seeded

    folder = context.model_folder(config.model)
    with seeded(context.seed, encoder.device):
        head = open_token_head(folder, encoder.backbone, read_tensors(folder))
    return MaskedLanguageModel(encoder.backbone, head)


def save_model(encoder: Encoder, model: nn.Module, context: StageContext) -> None:
    """The encoder's folder, with the head beside it."""
    from opengte.models.token_head import TokenHead, save_token_head
    from opengte.models.weights import save_encoder

    save_encoder(encoder, context.output)
    head = model.get_submodule("head")
    assert isinstance(head, TokenHead)
    save_token_head(head, context.output)
