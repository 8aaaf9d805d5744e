"""Token ids longer than a model reads -> their beginning or end, special tokens kept.

A tokenised text is: leading special tokens, prompt, text, trailing special tokens. What is cut is
text alone while there is any, because a model without its closing token, or without its prompt,
is another model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opengte.records import Truncate


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One text as token ids.

    Attributes:
        ids: int32, (L,), special tokens included.
        num_prompt_tokens: leading tokens that belong to the prompt, leading special ones
            included; 0 when the text has no prompt.
        truncated: whether tokens of the text were left out.
        second_start: where the second text of a pair begins; None for a single text, and for
            tokenizers that do not tell the two apart.
    """

    ids: NDArray[np.int32]
    num_prompt_tokens: int = 0
    truncated: bool = False
    second_start: int | None = None

    def __len__(self) -> int:
        return len(self.ids)


def truncate_ids(
    ids: NDArray[np.int32],
    *,
    max_tokens: int,
    side: Truncate,
    num_leading: int,
    num_trailing: int,
) -> NDArray[np.int32]:
    """Cut ``ids`` to ``max_tokens``, keeping its first and last special tokens.

    Args:
        ids: (L,).
        max_tokens: the longest result; no more than ``num_leading + num_trailing`` fewer.
        side: ``end`` drops the end of the text, ``start`` its beginning, ``none`` nothing.
        num_leading: tokens at the front that stay (special tokens, and the prompt for ``start``).
        num_trailing: special tokens at the back that stay.
    """
    if len(ids) <= max_tokens or side == "none":
        return ids
    num_leading = min(num_leading, max(0, max_tokens - num_trailing))
    room = max_tokens - num_leading - num_trailing
    body = ids[num_leading : len(ids) - num_trailing]
    kept = body[:room] if side == "end" else body[len(body) - room :]
    return np.concatenate([ids[:num_leading], kept, ids[len(ids) - num_trailing :]])


def shared_room(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts are kept when they share ``room``: the longer is cut first."""
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    of_shorter = min(shorter, room // 2)
    kept = (of_shorter, room - of_shorter)
    return kept if first <= second else (kept[1], kept[0])
