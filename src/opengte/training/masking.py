"""Token ids -> ids with some of them hidden, and what stood there.

Axes: L tokens of a text. Masks are drawn from (seed, step, row) alone, so that any number of ranks
hides the same tokens and a run that goes on hides what it would have hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError
from opengte.losses.language_modelling import IGNORED
from opengte.text.tokenizer import Tokenizer

ROLES = ("cls_token", "bos_token", "eos_token", "sep_token", "pad_token", "unk_token", "mask_token")


@dataclass(frozen=True, kw_only=True)
class MaskingRules:
    """How much is hidden, and how.

    Attributes:
        share: of a text's ordinary tokens that must be guessed (BERT 0.15, mGTE and RetroMAE's
            encoder 0.3).
        mask_token_share: of these, shown as ``[MASK]`` (BERT 0.8).
        random_token_share: of these, shown as any other token (BERT 0.1); the rest is shown as
            it is.
    """

    share: float = 0.15
    mask_token_share: float = 0.8
    random_token_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"mask_share must lie in (0, 1), got {self.share}")
        if self.mask_token_share + self.random_token_share > 1:
            raise ConfigError(
                "mask_token_share and random_token_share add up to "
                f"{self.mask_token_share + self.random_token_share:g}; at most 1"
            )


class Masker:
    """Hides tokens of one tokenizer.

    Args:
        tokenizer: names the token that hides and those that are never hidden.
        rules: how much.

    Raises:
        ConfigError: the tokenizer has no mask token.
    """

    def __init__(self, tokenizer: Tokenizer, rules: MaskingRules) -> None:
        found = tokenizer.token_id("mask_token")
        if found is None:
            raise ConfigError(
                "the tokenizer names no mask_token, which masked language modelling needs; "
                "decoders have none: start from an encoder"
            )
        self.mask_id = found
        self.rules = rules
        self.vocab_size = tokenizer.vocab_size
        ids = {i for role in ROLES if (i := tokenizer.token_id(role)) is not None}
        self.special = np.asarray(sorted(ids), dtype=np.int64)

    def mask(
        self, ids: NDArray[np.int32], draw: np.random.Generator
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Hide a share of the ordinary tokens, one at least where there is one.

        Returns:
            The ids to be shown, and the true id where it must be guessed, -100 elsewhere.
        """
        ordinary = np.flatnonzero(~np.isin(ids, self.special))
        labels = np.full(len(ids), IGNORED, dtype=np.int64)
        if not len(ordinary):
            return ids, labels
        number = max(1, round(self.rules.share * len(ordinary)))
        chosen = draw.choice(ordinary, size=number, replace=False)
        labels[chosen] = ids[chosen]
        shown = ids.copy()
        how = draw.random(number)
        masked = how < self.rules.mask_token_share
        shown[chosen[masked]] = self.mask_id
        drawn = ~masked & (how < self.rules.mask_token_share + self.rules.random_token_share)
        shown[chosen[drawn]] = draw.integers(0, self.vocab_size, size=int(drawn.sum()))
        return shown, labels

    def is_ordinary(self, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which tokens may be hidden at all."""
        return ~np.isin(ids, self.special)
