"""The sockets of the house: what one room may expect of another, and nothing more.

Whoever needs embeddings *receives* a ``TextEncoder``; only ``loading`` and ``pipeline`` choose
one. Axes: N texts, D embedding size, Q queries, K hits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from opengte.records import Batch, Embeddings, EmbeddingSpace, Kind, Truncate

Progress = Callable[[int, int | None], None]
"""Called with (done, total); total is None where it is not known."""


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into vectors of one named space."""

    @property
    def space(self) -> EmbeddingSpace:
        """The space its vectors live in."""
        ...

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
        """Embed ``texts`` in their order.

        Args:
            texts: N texts; none may be empty of meaning for the caller to tell apart.
            kind: puts the model's own query or document prompt in front; None puts none.
            prompt: a prompt that replaces the model's own.
            dimensions: cut to so many values and renormalise (Matryoshka).
            truncate: which end of a long text is cut off; ``none`` makes it an error.
            progress: told how many of the texts are done.

        Raises:
            UserError: a text is too long and ``truncate`` is ``none``; ``dimensions`` is not
                one the model was trained for.
        """
        ...

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: Truncate = "end",
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """The vectors of ``embed`` alone, (N, D). Who derives from this class has it."""
        return self.embed(
            texts,
            kind=kind,
            prompt=prompt,
            dimensions=dimensions,
            truncate=truncate,
            progress=progress,
        ).vectors


class SparseEncoder(Protocol):
    """Turns texts into weights of vocabulary entries (mGTE's lexical head, SPLADE)."""

    def encode_sparse(
        self, texts: Sequence[str], *, kind: Kind | None = None
    ) -> list[Mapping[int, float]]:
        """One mapping a text: token id to weight > 0."""
        ...


class TokenEncoder(Protocol):
    """Turns texts into one vector a token (late interaction)."""

    def encode_tokens(
        self, texts: Sequence[str], *, kind: Kind | None = None
    ) -> list[NDArray[np.float32]]:
        """One (num_tokens, D) array a text."""
        ...


class Reranker(Protocol):
    """Scores how well documents answer a query, reading both together."""

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
        """(N,): larger is better; comparable within one query."""
        ...


class VectorIndex(Protocol):
    """Finds the nearest stored vectors."""

    def search(
        self, vectors: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and row numbers of the best k, both (Q, K), best first; ties by lower row.

        K is ``min(k, number of rows)``.
        """
        ...


class ChatModel(Protocol):
    """A large language model behind a chat endpoint."""

    def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        json_schema: Mapping[str, Any] | None = None,
    ) -> str:
        """The answer's text. With ``json_schema`` it is JSON that satisfies it."""
        ...


class BatchSource(Protocol):
    """Gives the batch of any step, as a pure function of (seed, step, manifest)."""

    def batch(self, step: int) -> Batch:
        """The whole global batch of ``step``; ranks take ``Batch.slice``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the batch of some step may have changed."""
        ...


@dataclass(frozen=True)
class StepContext:
    """What a training callback may see and do after a step.

    Attributes:
        step: steps finished so far.
        num_steps: steps of the whole run.
        loss: loss of this step, averaged over the global batch, nats per pair.
        rank, world_size: this process among all.
        run_folder: where the run writes; ranks exchange numbered files below it.
        encoder: the live encoder, in evaluation mode for the length of the call.
        barrier: waits until every rank has called it.
        batch: the global batch that was just learned from.
    """

    step: int
    num_steps: int
    loss: float
    rank: int
    world_size: int
    run_folder: Path
    encoder: TextEncoder
    barrier: Callable[[], None]
    batch: Batch


class TrainingCallback(Protocol):
    """Work done between steps: evaluation, mining anew, saving. Called on every rank."""

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        """Called after every step; numbers it returns go into ``metrics.jsonl``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state; saved with every checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what ``state_dict`` gave."""
        ...
