"""Lengths of texts -> groups that fit a budget of tokens.

A batch cut by a number of texts is too small for short texts and too large for long ones: two
hundred short texts at once fall out of the processor's cache, two hundred long ones out of memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError


def group_by_length(
    lengths: Sequence[int] | NDArray[np.integer],
    *,
    max_tokens: int,
    max_texts: int | None = None,
) -> list[NDArray[np.int64]]:
    """Cut texts, longest first, into groups of at most ``max_tokens`` tokens.

    A group's size is counted as if it were padded to its longest text, so that the budget holds
    for padded and for packed batches alike; sorted by length the two hardly differ. A text that
    is longer than the budget stands alone.

    Args:
        lengths: tokens of each text.
        max_tokens: the budget of one group, in tokens.
        max_texts: also never more texts than this in a group.

    Returns:
        Positions in ``lengths``; every position once; ties in their old order.

    Raises:
        ConfigError: a limit below 1.
    """
    for name, value in (("max_tokens", max_tokens), ("max_texts", max_texts)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be >= 1, got {value}")
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    groups = []
    start = 0
    while start < len(order):
        count = max(1, max_tokens // max(1, int(sizes[order[start]])))
        if max_texts is not None:
            count = min(count, max_texts)
        groups.append(order[start : start + count])
        start += count
    return groups
