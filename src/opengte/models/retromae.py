"""A light decoder that rebuilds a text from its embedding (RetroMAE, arXiv:2205.12035).

Axes: N texts, L tokens of the longest, T tokens of all, C hidden size, V vocabulary.

The encoder reads a text with few tokens hidden, its embedding h is all that the decoder knows
beside a much more damaged text. Enhanced decoding (3.3 of the paper): the queries are h plus each
position, keys and values h followed by the words, and each place attends to h and to its own
sample of the other words, never to itself; so every token is guessed, each from another context.
As in FlagEmbedding the decoder shares word embeddings and the head with the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from opengte.model_modules import PoolingMode
from opengte.models.backbone import Backbone
from opengte.models.packing import PackedTokens
from opengte.models.pooling import pool
from opengte.models.precision import resolve_dtype
from opengte.models.token_head import TokenHead


@dataclass(frozen=True)
class DecoderInput:
    """What the decoder reads of a batch, padded.

    Attributes:
        token_ids: (N, L): the words, hidden ones replaced; padding behind.
        visible: (N, L, L): which words each place may look at.
        predicted: (P,): flat places of (N, L) that are guessed.
    """

    token_ids: Int64[Tensor, "N L"]
    visible: Bool[Tensor, "N L L"]
    predicted: Int64[Tensor, " P"]

    def to(self, device: torch.device) -> DecoderInput:
        """The same on another device."""
        return DecoderInput(
            self.token_ids.to(device), self.visible.to(device), self.predicted.to(device)
        )


class RetroMaeDecoder(nn.Module):
    """One transformer layer, in float32.

    Args:
        hidden_size: C.
        num_heads: of attention.
        intermediate_size: of the feed-forward part.
        num_positions: longest text, in tokens.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, intermediate_size: int, num_positions: int
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.positions = nn.Embedding(num_positions, hidden_size)
        self.word_norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.query, self.key, self.value, self.out = (
            nn.Linear(hidden_size, hidden_size) for _ in range(4)
        )
        self.attention_norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.up = nn.Linear(hidden_size, intermediate_size)
        self.down = nn.Linear(intermediate_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self,
        embeddings: Float[Tensor, "N C"],
        words: Float[Tensor, "N L C"],
        visible: Bool[Tensor, "N L L"],
    ) -> Float[Tensor, "N L C"]:
        """States of all places.

        Args:
            embeddings: h of each text.
            words: word embeddings of the decoder's input, the first of each text unused: h
                stands in its place.
            visible: which places each place looks at; h is always seen.
        """
        places = self.positions.weight[: words.shape[1]]
        queries = embeddings[:, None] + places
        read = self.word_norm(words + places)
        read = torch.cat([embeddings[:, None], read[:, 1:]], dim=1)
        seen = visible.clone()
        seen[:, :, 0] = True
        mixed = self._attend(queries, read, seen)
        states = self.attention_norm(queries + mixed)
        result: Tensor = self.norm(states + self.down(functional.gelu(self.up(states))))
        return result

    def _attend(self, queries: Tensor, read: Tensor, visible: Tensor) -> Tensor:
        query, key, value = (
            layer(given).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, given in ((self.query, queries), (self.key, read), (self.value, read))
        )
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=visible[:, None]
        )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class RetroMae(nn.Module):
    """What the ``retromae`` stage trains: the backbone, a head and the decoder.

    Args:
        backbone: afterwards it is what is kept.
        head: token states -> logits, for encoder and decoder both.
        decoder: the light one.
        pooling: how a text's states become its embedding (BGE: ``cls``).
        compute_dtype: of the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: TokenHead,
        decoder: RetroMaeDecoder,
        *,
        pooling: PoolingMode,
        compute_dtype: str = "auto",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.decoder = decoder
        self.pooling = pooling
        self.compute_dtype = compute_dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(
        self, packed: PackedTokens, hidden: Int64[Tensor, " H"], given: DecoderInput
    ) -> tuple[Float[Tensor, "H V"], Float[Tensor, "P V"]]:
        """Logits of the encoder's hidden tokens, and of those that the decoder guesses.

        Args:
            packed: the texts as the encoder reads them.
            hidden: places of hidden tokens in the packed row.
            given: what the decoder reads.
        """
        self.backbone.compute_dtype = resolve_dtype(self.compute_dtype, self.device)
        states = self.backbone(packed)
        table = self.backbone.word_embedding
        embeddings = pool(states, packed, mode=self.pooling)
        rebuilt = self.decoder(embeddings, table(given.token_ids).float(), given.visible)
        return (
            self.head(states[hidden], table.weight),
            self.head(rebuilt.flatten(0, 1)[given.predicted], table.weight),
        )
