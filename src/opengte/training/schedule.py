"""Step -> learning rate: a pure function, so that a resumed run needs no state for it."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_factor(
    step: int,
    num_steps: int,
    *,
    warmup: float,
    schedule: Literal["linear", "cosine", "constant"],
    final: float = 0.0,
) -> float:
    """Share of the peak rate in ``step`` (counted from 0).

    The rate rises over the first ``warmup * num_steps`` steps and reaches the peak in the first
    step after them; linear and cosine would reach ``final`` in the step after the last.
    """
    num_warmup = round(warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / (num_warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    falling = 1.0 - done if schedule == "linear" else (1.0 + math.cos(math.pi * done)) / 2.0
    return final + (1.0 - final) * falling
