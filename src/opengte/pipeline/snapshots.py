"""Encoders of earlier moments of a training run, kept as models of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opengte.contracts import StepContext
from opengte.pipeline.runner import snapshot_folder

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


class KeepSnapshots:
    """A training callback that saves the encoder at given shares of the run.

    A run that was killed and goes on writes the same snapshots again. Adapters are merged into
    the copy that is saved; the ones that learn stay.

    Args:
        shares: of the run, in (0, 1).
        run_folder, stage: where they are kept.
    """

    def __init__(self, shares: tuple[float, ...], run_folder: Path, stage: str) -> None:
        self._shares = shares
        self._run_folder = run_folder
        self._stage = stage

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        """Save where a share has just been reached."""
        from opengte.models.encoder import Encoder

        for share in self._shares:
            reached = context.step == max(1, round(share * context.num_steps))
            if reached and context.rank == 0 and isinstance(context.encoder, Encoder):
                save_snapshot(
                    context.encoder, snapshot_folder(self._run_folder, self._stage, share)
                )
        return None

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what is kept follows from the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


def save_snapshot(encoder: Encoder, folder: Path) -> None:
    """Write a copy of a live encoder as a model folder."""
    import copy

    from opengte.models.fingerprint import has_adapters
    from opengte.models.lora import merge_lora
    from opengte.models.weights import save_encoder

    if has_adapters(encoder):
        encoder = copy.deepcopy(encoder)
        merge_lora(encoder)
    save_encoder(encoder, folder)
