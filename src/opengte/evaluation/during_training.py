"""A light suite of tasks, measured every so many steps while a model trains.

Implements ``TrainingCallback``. Every rank embeds its share of the texts and reads the others' from
files, so that the time goes down with the number of ranks; every rank then has the same
scores. Within one evaluation a text is embedded once, whatever the number of tasks and retrievers;
an evaluation that was interrupted finds the parts it had finished.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opengte.atomic import atomic_file
from opengte.contracts import Progress, StepContext, TextEncoder
from opengte.errors import ConfigError
from opengte.evaluation.embedding_cache import EmbeddingCache
from opengte.evaluation.evaluate import EvaluationConfig, evaluate
from opengte.evaluation.light_tasks import lighten
from opengte.evaluation.load_task import load_task
from opengte.evaluation.results import TaskResult, write_results
from opengte.evaluation.tasks import Task
from opengte.records import Embeddings, EmbeddingSpace, Kind, Truncate


@dataclass(frozen=True, kw_only=True)
class LightSuiteConfig:
    """What is measured, and when.

    Attributes:
        tasks: paths, as ``gte evaluate --task`` takes them.
        every_steps: steps from one measurement to the next.
        max_items: queries, pairs or texts kept of each task.
        max_documents: documents searched, or texts learned from, of each.
        at_start: measure after the first step too, for a curve that begins there.
    """

    tasks: tuple[str, ...]
    every_steps: int = 500
    max_items: int = 200
    max_documents: int = 2_000
    at_start: bool = True

    def __post_init__(self) -> None:
        if not self.tasks or self.every_steps < 1:
            raise ConfigError(
                "a light suite needs at least one task and every_steps >= 1; "
                f"got {len(self.tasks)} tasks and every_steps {self.every_steps}"
            )


class LightSuite:
    """Measures the live encoder; the last step is always measured.

    Args:
        tasks: what is measured, as light as it should be.
        every_steps: steps from one measurement to the next.
        at_start: measure after the first step too.
        settings: of the protocols.

    Attributes:
        history: step to {task: main score}.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        every_steps: int = 500,
        at_start: bool = True,
        settings: EvaluationConfig | None = None,
    ) -> None:
        self._tasks = list(tasks)
        self._every_steps = every_steps
        self._at_start = at_start
        self._settings = settings or EvaluationConfig()
        self.history: dict[int, dict[str, float]] = {}

    @classmethod
    def from_config(cls, config: LightSuiteConfig, *, seed: int = 0) -> LightSuite:
        """Read and lighten the tasks of a config."""
        tasks = [
            lighten(
                load_task(path),
                max_items=config.max_items,
                max_documents=config.max_documents,
                seed=seed,
            )
            for path in config.tasks
        ]
        return cls(tasks, every_steps=config.every_steps, at_start=config.at_start)

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        """Measure, if it is time. Scores are named ``eval/TASK``, their mean ``eval/mean``."""
        due = context.step % self._every_steps == 0 or context.step == context.num_steps
        if not due and not (self._at_start and context.step == 1):
            return None
        folder = context.run_folder / "evaluation" / f"step-{context.step:08d}"
        encoder = ShardedEncoder(
            context.encoder,
            folder / "parts",
            rank=context.rank,
            world_size=context.world_size,
            barrier=context.barrier,
        )
        cache = EmbeddingCache()
        results = [
            evaluate(encoder, task, config=self._settings, cache=cache) for task in self._tasks
        ]
        self._keep(context, folder, results)
        scores = {result.name: result.main_score for result in results}
        self.history[context.step] = scores
        return {
            **{f"eval/{name}": score for name, score in scores.items()},
            "eval/mean": float(np.mean(list(scores.values()))),
        }

    @property
    def best_step(self) -> int | None:
        """The step with the best mean; the earliest of equals; None before any measurement."""
        means = {step: np.mean(list(scores.values())) for step, scores in self.history.items()}
        return max(means, key=lambda step: (means[step], -step)) if means else None

    def state_dict(self) -> dict[str, Any]:
        """The history."""
        return {"history": {str(step): scores for step, scores in self.history.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the history."""
        self.history = {int(step): dict(scores) for step, scores in state["history"].items()}

    def _keep(self, context: StepContext, folder: Path, results: Sequence[TaskResult]) -> None:
        context.barrier()  # nobody reads parts any more
        if context.rank == 0:
            shutil.rmtree(folder / "parts", ignore_errors=True)
            name = f"{context.encoder.space.model} at step {context.step}"
            write_results(folder, name, results)


class ShardedEncoder(TextEncoder):
    """A ``TextEncoder`` that embeds its share of the texts and takes the rest from other ranks.

    Every rank must make the same calls in the same order.

    Args:
        encoder: the live encoder of this rank; all hold the same weights.
        folder: where parts are exchanged.
        rank: this process among all.
        world_size: how many there are.
        barrier: waits until every rank has called it.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        folder: Path,
        *,
        rank: int,
        world_size: int,
        barrier: Callable[[], None],
    ) -> None:
        self._encoder = encoder
        self._folder = folder
        self._rank = rank
        self._world_size = world_size
        self._barrier = barrier

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the live encoder."""
        return self._encoder.space

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: Truncate = "end",
        progress: Progress | None = None,
    ) -> Embeddings:
        """Embeddings of all ``texts``, on every rank."""
        options: dict[str, Any] = {
            "kind": kind,
            "prompt": prompt,
            "dimensions": dimensions,
            "truncate": truncate,
        }
        if self._world_size == 1:
            return self._encoder.embed(texts, progress=progress, **options)
        # By length, dealt in turn: every rank gets as many long texts as the others.
        order = np.argsort([-len(text) for text in texts], kind="stable")
        name = _name(texts, options)
        own = self._path(name, self._rank)
        if not own.is_file():
            mine = order[self._rank :: self._world_size]
            part = self._encoder.embed([texts[row] for row in mine], progress=progress, **options)
            with atomic_file(own) as stream:
                np.savez(
                    stream,
                    rows=mine,
                    vectors=part.vectors,
                    num_tokens=part.num_tokens,
                    truncated=part.truncated,
                )
        self._barrier()
        return self._gather(name, len(texts), dimensions or self.space.dimensions)

    def _gather(self, name: str, num_texts: int, dimensions: int) -> Embeddings:
        vectors = np.empty((num_texts, dimensions), dtype=np.float32)
        num_tokens = np.empty(num_texts, dtype=np.int64)
        truncated = np.empty(num_texts, dtype=bool)
        for rank in range(self._world_size):
            with open(self._path(name, rank), "rb") as stream:
                part = np.load(stream, allow_pickle=False)
                rows = part["rows"]
                vectors[rows] = part["vectors"]
                num_tokens[rows] = part["num_tokens"]
                truncated[rows] = part["truncated"]
        return Embeddings(vectors, num_tokens, truncated)

    def _path(self, name: str, rank: int) -> Path:
        return self._folder / f"{name}-{rank:04d}-of-{self._world_size:04d}.npz"


def _name(texts: Sequence[str], options: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:24]
