"""Losses of a run, step by step -> nothing, or an error that names the source and the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from opengte.errors import UserError
from opengte.records import Batch
from opengte.training.batching import name_rows

WINDOW = 16
"""Steps of one source over which its loss is averaged."""
SLACK = 2.0
"""Nats by which an average must rise beyond all growth; small losses may grow manifold."""


class DivergenceError(UserError):
    """The loss or the gradient is not a number, or the loss has exploded."""


class DivergenceGuard:
    """Watches the loss of every source.

    Args:
        max_growth: how often the first average of a source's loss a later one may reach.
    """

    def __init__(self, max_growth: float) -> None:
        self.max_growth = max_growth
        self.first: dict[str, float] = {}
        self.recent: dict[str, list[float]] = {}

    def check_loss(self, loss: float, batch: Batch, *, bad_rows: Sequence[int] | None) -> None:
        """Take in the loss of a step.

        Args:
            loss: of the global batch, nats per pair.
            batch: the global batch.
            bad_rows: rows whose embeddings are not finite, where some are.

        Raises:
            DivergenceError: it is not finite, or the source's average has exploded.
        """
        if not math.isfinite(loss):
            where = "embeddings are not finite for " if bad_rows else ""
            raise DivergenceError(
                f"the loss of step {batch.step + 1} is {loss}: {where}"
                f"{name_rows(batch, bad_rows or None)}; look at these rows, "
                "or lower learning_rate"
            )
        recent = self.recent.setdefault(batch.source, [])
        recent.append(loss)
        if len(recent) < WINDOW:
            return
        average = sum(recent) / len(recent)
        recent.pop(0)
        first = self.first.setdefault(batch.source, average)
        if average > self.max_growth * first + SLACK:
            raise DivergenceError(
                f"the loss has exploded: {average:.3g} on average over the last {WINDOW} steps "
                f"of source {batch.source!r}, {first:.3g} at its start; step {batch.step + 1}, "
                f"{name_rows(batch)}; lower learning_rate, or raise max_loss_growth"
            )

    def check_gradient(self, norm: float, batch: Batch) -> None:
        """Take in the norm of the gradient of a step.

        Raises:
            DivergenceError: it is not finite.
        """
        if not math.isfinite(norm):
            raise DivergenceError(
                f"the gradient of step {batch.step + 1} is {norm}: {name_rows(batch)}; "
                "lower learning_rate, or set precision to float32"
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"first": self.first, "recent": self.recent}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.first = dict(state["first"])
        self.recent = {source: list(losses) for source, losses in state["recent"].items()}
