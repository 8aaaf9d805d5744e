"""Tokenised texts -> one row of real tokens, without padding.

Axes: N texts, T tokens of all texts together. Every layer but attention works on tokens one by
one, so a batch needs no rectangle; attention is told where each text begins and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from opengte.errors import ConfigError
from opengte.text.truncation import TokenizedText


@dataclass(frozen=True)
class PackedTokens:
    """A batch of texts, one behind the other.

    Attributes:
        token_ids: int64, (T,).
        boundaries: int32, (N + 1,): text i is ``token_ids[boundaries[i]:boundaries[i + 1]]``.
        pooling_mask: bool, (T,): tokens that take part in pooling.
        positions: int64, (T,): each token's position in its own text, from 0.
        lengths: int64, (N,), on the host: tokens of each text.
        token_types: int64, (T,): 1 for tokens of the second text of a pair; None: all 0.
    """

    token_ids: Int[Tensor, " T"]
    boundaries: Int[Tensor, " N+1"]
    pooling_mask: Bool[Tensor, " T"]
    positions: Int[Tensor, " T"]
    lengths: NDArray[np.int64]
    token_types: Int[Tensor, " T"] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.token_ids)

    @property
    def max_length(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def text_of_token(self) -> Int[Tensor, " T"]:
        """int64, (T,): the text that each token belongs to."""
        owners = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return torch.from_numpy(owners).to(self.token_ids.device)

    def to(self, device: torch.device | str) -> PackedTokens:
        """The same batch on another device."""
        return replace(
            self,
            token_ids=self.token_ids.to(device, non_blocking=True),
            boundaries=self.boundaries.to(device, non_blocking=True),
            pooling_mask=self.pooling_mask.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            token_types=None if self.token_types is None else self.token_types.to(device),
        )


def pack(
    texts: Sequence[TokenizedText], *, exclude_prompt_from_pooling: bool = False
) -> PackedTokens:
    """Lay tokenised texts one behind the other, in their order.

    Args:
        texts: N texts, none of them without tokens.
        exclude_prompt_from_pooling: leave the tokens of prompts (and the special tokens before
            them) out of pooling; a text that is all prompt keeps its last token.

    Raises:
        ConfigError: there is no text, or one has no tokens.
    """
    lengths = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
    if not len(lengths) or not lengths.all():
        raise ConfigError("a packed batch needs at least one text, and every text a token")
    boundaries = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(boundaries[-1]) - np.repeat(boundaries[:-1], lengths)
    mask = np.ones(boundaries[-1], dtype=np.bool_)
    if exclude_prompt_from_pooling:
        skipped = np.fromiter((text.num_prompt_tokens for text in texts), np.int64, len(texts))
        mask = positions >= np.repeat(np.minimum(skipped, lengths - 1), lengths)
    ids = np.concatenate([text.ids for text in texts]).astype(np.int64)
    return PackedTokens(
        token_ids=torch.from_numpy(ids),
        boundaries=torch.from_numpy(boundaries.astype(np.int32)),
        pooling_mask=torch.from_numpy(mask),
        positions=torch.from_numpy(positions),
        lengths=lengths,
        token_types=_token_types(texts),
    )


def _token_types(texts: Sequence[TokenizedText]) -> Int[Tensor, " T"] | None:
    """1 behind ``second_start`` of each pair; None when no text is a pair."""
    if all(text.second_start is None for text in texts):
        return None
    parts = []
    for text in texts:
        types = np.zeros(len(text), dtype=np.int64)
        if text.second_start is not None:
            types[text.second_start :] = 1
        parts.append(types)
    return torch.from_numpy(np.concatenate(parts))
