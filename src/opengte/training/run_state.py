"""What a run must remember to go on: totals, the best so far, and whose run it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

from torch import nn

from opengte.errors import ConfigError
from opengte.training.config import TrainingConfig, learning_settings


@dataclass
class Totals:
    """Sums over the steps that count, whatever was interrupted in between.

    Attributes:
        step: finished steps.
        num_pairs, num_tokens, num_truncated, num_skipped: of all ranks.
        seconds: wall time of these steps.
        first_losses, last_losses: nats per pair, by source.
        best_step, best_value: of the wanted metric, where there is one.
    """

    step: int = 0
    num_pairs: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
    num_skipped: int = 0
    seconds: float = 0.0
    first_losses: dict[str, float] = field(default_factory=dict)
    last_losses: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_value: float | None = None

    def is_better(self, value: float, mode: str) -> bool:
        """Whether ``value`` beats the best so far."""
        if self.best_value is None:
            return True
        return value > self.best_value if mode == "max" else value < self.best_value


def run_identity(
    config: TrainingConfig, loss: object, batches_fingerprint: str, module: nn.Module
) -> dict[str, Any]:
    """What must be equal for a checkpoint to be of this run, in parts that a message can name."""
    shapes = {name: list(p.shape) for name, p in module.named_parameters()}
    return {
        "settings": _plain(learning_settings(config)),
        "loss": _plain(loss),
        "batches": batches_fingerprint,
        "model": hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()[:16],
    }


def check_identity(saved: Mapping[str, Any], wanted: Mapping[str, Any], folder: object) -> None:
    """Refuse to go on with another run's checkpoint.

    Raises:
        ConfigError: names the setting that differs, with both values.
    """
    for part, value in wanted.items():
        if saved.get(part) == value:
            continue
        was, name = saved.get(part), part
        if isinstance(value, dict) and isinstance(was, dict):
            name = next(key for key in {**value, **was} if was.get(key) != value.get(key))
            was, value = was.get(name), value.get(name)
        raise ConfigError(
            f"its checkpoints belong to another run: {name} was {was}, now {value}; "
            "give another folder, or remove this one",
            path=str(folder),
        )


def _plain(value: object) -> Any:
    """As JSON gives it back."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return json.loads(json.dumps(plain, default=_plain_value))


def _plain_value(value: object) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
