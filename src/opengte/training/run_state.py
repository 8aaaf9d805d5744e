"""What a run must remember to go on: totals, the best so far, and whose run it is."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opengte.contracts import TrainingCallback
from opengte.errors import ConfigError
from opengte.training.config import TrainingConfig, learning_settings
from opengte.training.divergence import DivergenceGuard
from opengte.training.optimizer import LossScaler


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
    frozen = [p.detach() for p in module.parameters() if not p.requires_grad]
    return {
        "settings": _plain(learning_settings(config)),
        "loss": _plain(loss),
        "batches": batches_fingerprint,
        "model": hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()[:16],
        "frozen weights": _tensor_digest(frozen),
    }


def _tensor_digest(tensors: Iterable[Tensor]) -> str:
    """What checkpoints count on without holding it."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class RunState:
    """Everything beside tensors that a run goes on from.

    Attributes:
        identity: whose run it is.
        totals, scaler, guard: changed in place by the run.
        callbacks: have states of their own.
    """

    identity: Mapping[str, Any]
    totals: Totals
    scaler: LossScaler
    guard: DivergenceGuard
    callbacks: Sequence[TrainingCallback]

    def state_dict(self) -> dict[str, Any]:
        """JSON-able, and not changed by later steps."""
        return {
            "identity": self.identity,
            "totals": asdict(self.totals),
            "scaler": self.scaler.state_dict(),
            "guard": copy.deepcopy(self.guard.state_dict()),
            "callbacks": copy.deepcopy([c.state_dict() for c in self.callbacks]),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        for name, value in state["totals"].items():
            setattr(self.totals, name, value)
        self.scaler.load_state_dict(state["scaler"])
        self.guard.load_state_dict(state["guard"])
        for callback, own in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(own)

    def check(self, state: Mapping[str, Any], folder: Path) -> None:
        """Refuse to go on with another run's checkpoint.

        Raises:
            ConfigError: names the setting that differs, with both values.
        """
        if len(state["callbacks"]) != len(self.callbacks):
            raise ConfigError(
                f"its checkpoints were written with {len(state['callbacks'])} callbacks, there "
                f"are {len(self.callbacks)} now; give the same ones",
                path=folder,
            )
        saved = state["identity"]
        for part, value in self.identity.items():
            if saved.get(part) == value:
                continue
            was, name = saved.get(part), part
            if isinstance(value, dict) and isinstance(was, dict):
                name = next(key for key in {**value, **was} if was.get(key) != value.get(key))
                was, value = was.get(name), value.get(name)
            raise ConfigError(
                f"its checkpoints belong to another run: {name} was {was}, now {value}; "
                "give another folder, or remove this one",
                path=folder,
            )


def _plain(value: object) -> Any:
    """As JSON gives it back."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return json.loads(json.dumps(plain, default=_plain_value))


def _plain_value(value: object) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
