"""Token states -> token states, read against a dictionary that is learned (NV-Embed).

Axes: T tokens, C hidden size, R latents, H heads, E size of a head.

NV-Embed (Lee et al. 2024, arXiv:2405.17428, 3.1.2): tokens are the queries, a trainable dictionary
of R = 512 latents gives keys and values, then an MLP; the mean over tokens follows. As released,
both are pre-norm with a residual around them, the MLP is gated (GEGLU, four times C), H = 8 and
E = C = 4096.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from opengte.errors import ConfigError
from opengte.models.precision import CastLinear


@dataclass(frozen=True, kw_only=True)
class LatentAttentionConfig:
    """Sizes of latent attention.

    Attributes:
        hidden_size: C, of the backbone.
        num_latents: R; 512 in the paper.
        num_heads: H; 8 in the paper.
        head_size: E; 4096 as released, for C = 4096.
        latent_size: width of a latent; 4096 as released. Queries come from tokens and are
            projected from C, keys and values from this.
        feed_forward_multiple: width of the MLP over C; 4 as released.

    Raises:
        ConfigError: a size below 1.
    """

    hidden_size: int
    num_latents: int = 512
    num_heads: int = 8
    head_size: int = 4096
    latent_size: int = 4096
    feed_forward_multiple: int = 4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ConfigError(f"{name} must be >= 1, got {value}")


class LatentAttention(nn.Module):
    """Cross-attention of tokens to latents, then a gated MLP, each with a residual.

    Args:
        config: its sizes.
    """

    def __init__(self, config: LatentAttentionConfig) -> None:
        super().__init__()
        self.config = config
        inner = config.num_heads * config.head_size
        wide = config.hidden_size * config.feed_forward_multiple
        self.latents = nn.Parameter(torch.randn(config.num_latents, config.latent_size))
        self.query_norm = nn.LayerNorm(config.hidden_size)
        self.latent_norm = nn.LayerNorm(config.latent_size)
        self.to_query = CastLinear(config.hidden_size, inner, bias=False)
        self.to_key_value = CastLinear(config.latent_size, 2 * inner, bias=False)
        self.to_output = CastLinear(inner, config.hidden_size, bias=False)
        self.feed_norm = nn.LayerNorm(config.hidden_size)
        self.feed_in = CastLinear(config.hidden_size, 2 * wide)
        self.feed_out = CastLinear(wide, config.hidden_size)

    def forward(self, states: Float[Tensor, "T C"]) -> Float[Tensor, "T C"]:
        """Adds attention(norm(states)), then mlp(norm(of the sum)), to the states."""
        states = states + self._attend(self.query_norm(states))
        values, gates = self.feed_in(self.feed_norm(states)).chunk(2, dim=-1)
        return states + self.feed_out(values * functional.gelu(gates))

    def _attend(self, queries: Float[Tensor, "T C"]) -> Float[Tensor, "T C"]:
        heads = self.config.num_heads
        latents = self.latent_norm(self.latents).to(queries.dtype)
        key, value = self.to_key_value(latents).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(0, 1)
            for part in (self.to_query(queries), key, value)
        )
        mixed = functional.scaled_dot_product_attention(query[None], key[None], value[None])[0]
        out: Tensor = self.to_output(mixed.transpose(0, 1).flatten(1))
        return out

    def describe(self) -> dict[str, Any]:
        """Its ``config.json``."""
        return asdict(self.config)


RELEASED_NAMES = {
    "latents": "latents",
    "query_norm": "cross_attend_blocks.0.norm",
    "latent_norm": "cross_attend_blocks.0.norm_context",
    "to_query": "cross_attend_blocks.0.fn.to_q",
    "to_key_value": "cross_attend_blocks.0.fn.to_kv",
    "to_output": "cross_attend_blocks.0.fn.to_out",
    "feed_norm": "cross_attend_blocks.1.norm",
    "feed_in": "cross_attend_blocks.1.fn.net.0",
    "feed_out": "cross_attend_blocks.1.fn.net.2",
}
"""Our names -> those of NV-Embed's released weights, below ``latent_attention_model.``."""
