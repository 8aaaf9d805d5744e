"""Texts -> hidden tokens to be guessed: masked language modelling and RetroMAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opengte.losses.language_modelling import (
    IGNORED,
    masked_language_modelling_loss,
    retromae_loss,
)
from opengte.models.masked_language_model import MaskedLanguageModel
from opengte.models.packing import pack
from opengte.models.retromae import DecoderInput, RetroMae
from opengte.records import Batch
from opengte.text.tokenizer import Tokenizer
from opengte.text.truncation import TokenizedText
from opengte.training.batching import MicroBatch, micro_batches
from opengte.training.masking import Masker, MaskingRules

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class MaskedTexts(MicroBatch):
    """Texts with hidden tokens.

    Attributes:
        labels: of all their tokens, one text behind the other; -100 where nothing is hidden.
    """

    labels: Labels

    @property
    def num_hidden(self) -> int:
        """Tokens to be guessed."""
        return int((self.labels != IGNORED).sum())


@dataclass(frozen=True)
class DamagedTexts(MaskedTexts):
    """Texts with what a decoder reads of them.

    Attributes:
        given: the decoder's input.
        decoder_labels: true ids of the tokens it guesses.
    """

    given: DecoderInput
    decoder_labels: Labels


class MlmObjective:
    """Guess hidden tokens (Devlin et al. 2018; mGTE hides 30 %).

    Args:
        tokenizer: of the texts.
        rules: how much is hidden.
        max_tokens: longest text.
        micro_batch_tokens: texts are read in groups of at most so many tokens.
        seed: of what is hidden.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        rules: MaskingRules,
        *,
        max_tokens: int,
        micro_batch_tokens: int,
        seed: int,
    ) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.micro_batch_tokens, self.seed = micro_batch_tokens, seed
        self.masker = Masker(tokenizer, rules)
        self.identity: object = {"kind": "mlm", **asdict(rules), "max_tokens": max_tokens}
        self.num_hidden = 0

    def cut(self, part: Batch, first_row: int) -> list[MaskedTexts]:
        """See ``SummedObjective``."""
        texts = self.tokenizer.encode(part.queries, max_tokens=self.max_tokens)
        shown, labels = [], []
        for row, text in enumerate(texts):
            draw = np.random.default_rng([self.seed, part.step, first_row + row])
            ids, hidden = self.masker.mask(text.ids, draw)
            shown.append(TokenizedText(ids, 0, text.truncated))
            labels.append(hidden)
        return [
            MaskedTexts(m.positions, m.texts, np.concatenate([labels[i] for i in m.positions]))
            for m in micro_batches(shown, max_tokens=self.micro_batch_tokens)
        ]

    def counts(self, micro_batch: MaskedTexts) -> tuple[float, ...]:
        """Hidden tokens."""
        return (micro_batch.num_hidden,)

    def loss(
        self, model: MaskedLanguageModel, micro_batch: MaskedTexts, totals: Sequence[float]
    ) -> Tensor:
        """Nats per hidden token of the global batch: this micro-batch's part."""
        places = np.flatnonzero(micro_batch.labels != IGNORED)
        packed = pack(micro_batch.texts).to(model.device)
        logits = model(packed, torch.from_numpy(places).to(model.device))
        labels = torch.from_numpy(micro_batch.labels[places]).to(model.device)
        return masked_language_modelling_loss(logits, labels, num_predicted=int(totals[0]))


class RetroMaeObjective:
    """Guess hidden tokens, and rebuild the text from its embedding.

    Args:
        tokenizer: of the texts.
        encoder_rules: what is hidden from the encoder (BGE: 30 %, each as ``[MASK]``).
        decoder_share: of the words hidden from each place of the decoder (BGE: 0.5).
        enhanced: whether the decoder guesses every token, each from its own sample of words;
            otherwise the hidden ones alone, from those that are left.
        max_tokens, micro_batch_tokens, seed: as in ``MlmObjective``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder_rules: MaskingRules,
        *,
        decoder_share: float,
        enhanced: bool,
        max_tokens: int,
        micro_batch_tokens: int,
        seed: int,
    ) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.micro_batch_tokens, self.seed = micro_batch_tokens, seed
        self.decoder_share, self.enhanced = decoder_share, enhanced
        self.masker = Masker(tokenizer, encoder_rules)
        self.identity: object = {
            "kind": "retromae",
            **asdict(encoder_rules),
            "decoder_share": decoder_share,
            "enhanced": enhanced,
            "max_tokens": max_tokens,
        }

    def cut(self, part: Batch, first_row: int) -> list[DamagedTexts]:
        """See ``SummedObjective``."""
        texts = self.tokenizer.encode(part.queries, max_tokens=self.max_tokens)
        draws = [
            np.random.default_rng([self.seed, part.step, first_row + row])
            for row in range(len(texts))
        ]
        masked = [self.masker.mask(t.ids, d) for t, d in zip(texts, draws, strict=True)]
        shown = [
            TokenizedText(ids, 0, text.truncated)
            for (ids, _), text in zip(masked, texts, strict=True)
        ]
        parts = []
        for micro in micro_batches(shown, max_tokens=self.micro_batch_tokens):
            chosen = micro.positions.tolist()
            labels = np.concatenate([masked[i][1] for i in chosen])
            given, own = self._decoder_input(
                [texts[i].ids for i in chosen], [draws[i] for i in chosen]
            )
            parts.append(DamagedTexts(micro.positions, micro.texts, labels, given, own))
        return parts

    def counts(self, micro_batch: DamagedTexts) -> tuple[float, ...]:
        """Tokens that the encoder and the decoder guess."""
        return (micro_batch.num_hidden, len(micro_batch.decoder_labels))

    def loss(self, model: RetroMae, micro_batch: DamagedTexts, totals: Sequence[float]) -> Tensor:
        """L_enc + L_dec of the global batch: this micro-batch's part."""
        places = np.flatnonzero(micro_batch.labels != IGNORED)
        device = model.device
        encoder, decoder = model(
            pack(micro_batch.texts).to(device),
            torch.from_numpy(places).to(device),
            micro_batch.given.to(device),
        )
        return retromae_loss(
            encoder,
            torch.from_numpy(micro_batch.labels[places]).to(device),
            decoder,
            torch.from_numpy(micro_batch.decoder_labels).to(device),
            num_encoder_predicted=int(totals[0]),
            num_decoder_predicted=int(totals[1]),
        )

    def _decoder_input(
        self, ids: Sequence[NDArray[np.int32]], draws: Sequence[np.random.Generator]
    ) -> tuple[DecoderInput, Labels]:
        longest = max(len(own) for own in ids)
        shown = np.zeros((len(ids), longest), dtype=np.int64)
        visible = np.zeros((len(ids), longest, longest), dtype=np.bool_)
        predicted, labels = [], []
        for row, (own, draw) in enumerate(zip(ids, draws, strict=True)):
            length = len(own)
            guessed = np.flatnonzero(self.masker.is_ordinary(own))
            if self.enhanced:
                shown[row, :length] = own
                seen = draw.random((length, length)) >= self.decoder_share
                np.fill_diagonal(seen, False)
                visible[row, :length, :length] = seen
            else:
                guessed = guessed[draw.random(len(guessed)) < self.decoder_share]
                shown[row, :length] = own
                shown[row, guessed] = self.masker.mask_id
                visible[row, :, :length] = True
            predicted.append(row * longest + guessed)
            labels.append(own[guessed].astype(np.int64))
        given = DecoderInput(
            torch.from_numpy(shown),
            torch.from_numpy(visible),
            torch.from_numpy(np.concatenate(predicted)),
        )
        return given, np.concatenate(labels)
