"""Logits over a vocabulary -> how badly hidden tokens were guessed: MLM and RetroMAE.

Axes: T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

IGNORED = -100
"""The label of a token that nobody has to guess."""


def masked_language_modelling_loss(
    logits: Float[Tensor, "T V"],
    labels: Int64[Tensor, " T"],
    *,
    num_predicted: int | None = None,
) -> Float[Tensor, ""]:
    """Mean of -log p(token) over the tokens that were hidden (Devlin et al. 2018).

    Args:
        logits: of every token, or of the hidden ones alone.
        labels: the true token where it was hidden, -100 elsewhere.
        num_predicted: what to divide by; the hidden tokens of all ranks, so that the ranks'
            losses add up. None = those given here.

    Returns:
        Nats per predicted token; 0 where none is.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    total = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    count = int((labels != IGNORED).sum()) if num_predicted is None else num_predicted
    return total / max(1, count)


def retromae_loss(
    encoder_logits: Float[Tensor, "T V"],
    encoder_labels: Int64[Tensor, " T"],
    decoder_logits: Float[Tensor, "S V"],
    decoder_labels: Int64[Tensor, " S"],
    *,
    num_encoder_predicted: int | None = None,
    num_decoder_predicted: int | None = None,
) -> Float[Tensor, ""]:
    """L_enc + L_dec of RetroMAE (Xiao et al. 2022, arXiv:2205.12035).

    The encoder guesses its own hidden tokens; a one-layer decoder rebuilds the text from the
    embedding and a much more damaged input (BGE: 30 % and 50 % hidden).

    Args:
        encoder_logits: of the encoder's tokens.
        encoder_labels: -100 where nothing was hidden.
        decoder_logits: of the decoder's tokens.
        decoder_labels: with enhanced decoding every token but the first, else the hidden ones.
        num_encoder_predicted: over all ranks; None = those given here.
        num_decoder_predicted: likewise for the decoder.

    Returns:
        Nats: the sum of both means.
    """
    encoder = masked_language_modelling_loss(
        encoder_logits, encoder_labels, num_predicted=num_encoder_predicted
    )
    decoder = masked_language_modelling_loss(
        decoder_logits, decoder_labels, num_predicted=num_decoder_predicted
    )
    return encoder + decoder
