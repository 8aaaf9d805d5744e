"""What each step gave -> ``metrics.jsonl``, a line on stderr, and services that keep numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from opengte.contracts import Progress
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.live_line import LiveLine, StepReport, peak_memory_gib
from opengte.training.metrics_log import MetricsLog, Number
from opengte.training.step import PreparedBatch, StepOutcome
from opengte.training.trackers import NumberTracker, open_trackers

METRICS = "metrics.jsonl"


class Reporter:
    """Tells what happens; every rank has one, rank 0's speaks.

    Args:
        folder: gets ``metrics.jsonl``.
        config: which trackers, how many steps.
        world: the ranks.
        progress: told the steps in the place of a line on stderr.
    """

    def __init__(
        self, folder: Path, config: TrainingConfig, world: World, progress: Progress | None
    ) -> None:
        self.folder, self.config, self.world, self.progress = folder, config, world, progress
        self.live = LiveLine() if world.is_first and progress is None else None
        self.log: MetricsLog | None = None
        self.trackers: list[NumberTracker] = []

    def begin(self, step: int) -> None:
        """Open the log behind ``step`` finished steps; later lines are dropped."""
        if self.world.is_first:
            self.log = MetricsLog(self.folder / METRICS, step=step)
            self.trackers = open_trackers(self.config, self.folder, step=step)

    def step(
        self,
        number: int,
        prepared: PreparedBatch,
        outcome: StepOutcome,
        *,
        seconds: float,
        extra: Mapping[str, float],
    ) -> None:
        """Tell about a finished step.

        Args:
            number: steps finished so far.
            prepared: the batch of this rank.
            outcome: what it gave.
            seconds: wall time of the whole step.
            extra: learning rate, gradient norm, numbers from callbacks.
        """
        batch = prepared.batch
        memory = peak_memory_gib(self.world.device)
        line: dict[str, Number] = {
            "step": number,
            "epoch": batch.epoch,
            "source": batch.source,
            "loss": outcome.loss,
            "num_pairs": len(batch),
            "num_tokens": outcome.num_tokens,
            "num_truncated": outcome.num_truncated,
            "num_skipped": batch.num_skipped,
            "padding": outcome.padding,
            "micro_batches": len(prepared.micro_batches),
            "recomputed": outcome.num_recomputed,
            "seconds": seconds,
            "tokens_per_second": outcome.num_tokens / max(seconds, 1e-9),
            "memory_gib": memory,
            **extra,
        }
        if self.log is not None:
            self.log.write(line)
        for tracker in self.trackers:
            tracker.write(number, line)
        if self.live is not None:
            report = StepReport(
                step=number,
                num_steps=self.config.num_steps or number,
                source=batch.source,
                loss=outcome.loss,
                num_tokens=outcome.num_tokens,
                padding=outcome.padding,
                seconds=seconds,
                memory_gib=memory,
            )
            self.live.update(report)
        if self.progress is not None:
            self.progress(number, self.config.num_steps)

    def note(self, message: str) -> None:
        """Say something that stays, once for all ranks."""
        if not self.world.is_first:
            return
        if self.live is not None:
            self.live.note(message)
        else:
            print(message, file=sys.stderr, flush=True)

    def sync(self) -> None:
        """Bring the log to the disk."""
        if self.log is not None:
            self.log.sync()

    def close(self) -> None:
        """Close everything that was opened."""
        if self.live is not None:
            self.live.close()
        if self.log is not None:
            self.log.close()
        for tracker in self.trackers:
            tracker.close()
