"""The retromae stage: texts -> a backbone whose embedding says what a text says (BGE, stage 0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opengte.pipeline.language_stage import train_on_texts
from opengte.pipeline.learning import longest_input
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import RetroMaeStage
from opengte.pipeline.stages.mlm import save_model

if TYPE_CHECKING:
    from torch import nn

    from opengte.models.encoder import Encoder
    from opengte.training.language_objectives import RetroMaeObjective


def run(config: RetroMaeStage, context: StageContext) -> Mapping[str, Any]:
    """Train backbone, head and decoder; the decoder is thrown away."""
    return train_on_texts(
        config,
        context,
        make_objective=lambda encoder: make_objective(config, context, encoder),
        make_model=lambda encoder: make_model(config, context, encoder),
        save=lambda encoder, model: save_model(encoder, model, context),
    )


def make_objective(
    config: RetroMaeStage, context: StageContext, encoder: Encoder
) -> RetroMaeObjective:
    """What is hidden from encoder and decoder."""
    from opengte.training.language_objectives import RetroMaeObjective
    from opengte.training.masking import MaskingRules

    return RetroMaeObjective(
        encoder.tokenizer,
        MaskingRules(share=config.encoder_mask_share, mask_token_share=1.0, random_token_share=0.0),
        decoder_share=config.decoder_mask_share,
        enhanced=config.enhanced,
        max_tokens=longest_input(config, context),
        micro_batch_tokens=config.training.micro_batch_tokens,
        seed=context.seed,
    )


def make_model(config: RetroMaeStage, context: StageContext, encoder: Encoder) -> nn.Module:
    """The encoder's own backbone, a head and one decoder layer of its size."""
    from opengte.models.retromae import RetroMae, RetroMaeDecoder
    from opengte.models.token_head import open_token_head
    from opengte.models.weights import read_tensors
    from opengte.training.random_state import seeded

    folder = context.model_folder(config.model)
    backbone = encoder.backbone
    with seeded(context.seed, encoder.device):
        head = open_token_head(folder, backbone, read_tensors(folder))
        decoder = RetroMaeDecoder(
            backbone.hidden_size,
            int(backbone.config["num_attention_heads"]),
            int(backbone.config.get("intermediate_size", 4 * backbone.hidden_size)),
            longest_input(config, context),
        )
    return RetroMae(backbone, head, decoder, pooling=encoder.settings.pooling)
