"""Numbers of every step -> TensorBoard, Weights & Biases or trackio, none twice after a resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from opengte.errors import MissingExtraError
from opengte.training.config import Tracker, TrainingConfig, learning_settings
from opengte.training.metrics_log import Number


class NumberTracker(Protocol):
    """A service that keeps numbers by step."""

    def write(self, step: int, values: Mapping[str, Number]) -> None:
        """Keep the numbers of a finished step."""
        ...

    def close(self) -> None:
        """Bring everything out."""
        ...


class TensorBoardTracker:
    """Event files in ``tensorboard/`` of the run's folder."""

    def __init__(self, folder: Path, config: TrainingConfig, *, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", extra="trackers") from error
        # Steps that will be done again are dropped by TensorBoard itself.
        purge = step + 1 if step else None
        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)

    def write(self, step: int, values: Mapping[str, Number]) -> None:
        """One scalar each; the loss of each source apart."""
        for name, value in numbers(values).items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out and close."""
        self.writer.close()


class WandbTracker:
    """A run of Weights & Biases, the same one after a resume."""

    def __init__(self, folder: Path, config: TrainingConfig, *, step: int) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError("wandb", extra="trackers") from error
        self.run = wandb.init(
            project="opengte",
            name=folder.name,
            id=run_name(folder),
            dir=str(folder),
            config=learning_settings(config),
            resume="allow",
        )

    def write(self, step: int, values: Mapping[str, Number]) -> None:
        """Log; the service itself ignores a step that it has already."""
        self.run.log(numbers(values), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


class TrackioTracker:
    """A run of trackio, the same one after a resume."""

    def __init__(self, folder: Path, config: TrainingConfig, *, step: int) -> None:
        try:
            import trackio
        except ImportError as error:
            raise MissingExtraError("trackio", extra="trackers") from error
        self.trackio: Any = trackio
        settings = {name: str(value) for name, value in learning_settings(config).items()}
        trackio.init(
            project="opengte", name=run_name(folder), config=settings, resume="allow", embed=False
        )

    def write(self, step: int, values: Mapping[str, Number]) -> None:
        """Log."""
        self.trackio.log(numbers(values), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.trackio.finish()


TRACKERS: Mapping[Tracker, Callable[..., NumberTracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
}


def open_trackers(config: TrainingConfig, folder: Path, *, step: int) -> list[NumberTracker]:
    """The trackers that ``config`` names, behind ``step`` finished steps.

    Raises:
        MissingExtraError: the package of one is absent.
    """
    return [TRACKERS[name](folder, config, step=step) for name in config.trackers]


def numbers(values: Mapping[str, Number]) -> dict[str, float]:
    """What a chart can show: finite or not, but a number; the loss also under its source."""
    shown = {n: float(v) for n, v in values.items() if isinstance(v, int | float) and n != "step"}
    if source := values.get("source"):
        shown[f"loss/{source}"] = shown["loss"]
    return shown


def run_name(folder: Path) -> str:
    """A name that stays when the run goes on: the last two parts of its folder's path."""
    return "-".join(folder.resolve().parts[-2:])
