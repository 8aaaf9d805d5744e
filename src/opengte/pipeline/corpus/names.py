"""Functions whose own name says nothing: asked about in a slice, learned from in training.

Half of what a name gives away stands in the query too. A model that has only seen well-named
functions learns to match names, and loses where code is named badly.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from opengte.records import Pair

SAYS_NOTHING = "f"


def mask_name(code: str, name: str) -> str:
    """``code`` with every mention of ``name`` replaced by a name that says nothing."""
    return re.sub(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", SAYS_NOTHING, code)


def masked_positive(pair: Pair, names: Mapping[str, str]) -> str:
    """The positive of ``pair`` without its own name; as it is where it has none.

    Args:
        pair: whose ``origin`` is looked up.
        names: origin of a function -> its name.
    """
    name = names.get(pair.origin or "")
    return mask_name(pair.positive, name) if name else pair.positive


def mask_share(
    pairs: Sequence[Pair], names: Mapping[str, str], share: float, *, seed: int
) -> list[Pair]:
    """``pairs`` with the names of ``share`` of the functions masked, drawn with ``seed``."""
    draw = random.Random(seed)
    return [
        replace(pair, positive=masked_positive(pair, names)) if draw.random() < share else pair
        for pair in pairs
    ]
