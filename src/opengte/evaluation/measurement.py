"""What a protocol needs of a model, and what it gives back: the two ends of each task module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress, TextEncoder
from opengte.evaluation.embedding_cache import Cost, EmbeddingCache
from opengte.evaluation.results import Item
from opengte.metrics.bootstrap import Interval
from opengte.records import Kind


@dataclass
class Embedder:
    """An encoder with its cache, prompts and bill.

    Attributes:
        encoder: the model under test.
        cache: remembers its vectors.
        task_type: type of the task at hand, for the choice of prompt.
        task_name: its name, which comes first.
        prompts: prompt texts by task name or type; they replace the model's own on every side but
            the documents of retrieval and reranking.
        dimensions: cut vectors to so many values.
        progress: told how many texts are done.
        cost: filled while embedding.
    """

    encoder: TextEncoder
    cache: EmbeddingCache
    task_type: str = ""
    task_name: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    dimensions: int | None = None
    progress: Progress | None = None
    cost: Cost = field(default_factory=Cost)

    def embed(self, texts: Sequence[str], kind: Kind | None = None) -> NDArray[np.float32]:
        """The vectors as the model gives them, (N, D)."""
        prompt = None
        if kind != "document":
            prompt = self.prompts.get(self.task_name, self.prompts.get(self.task_type))
        found = self.cache.embed(
            self.encoder,
            texts,
            kind=kind,
            prompt=prompt,
            dimensions=self.dimensions,
            cost=self.cost,
            progress=self.progress,
        )
        return found.vectors

    def embed_unit(self, texts: Sequence[str], kind: Kind | None = None) -> NDArray[np.float32]:
        """The vectors at length 1, so that inner products are cosines."""
        return unit(self.embed(texts, kind))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a protocol measured.

    Attributes:
        main_metric: name of the figure that stands for the task.
        metrics: all figures, fractions.
        per_query: metric to {query, pair or text id: value}, where values of single items exist.
        interval: of the main metric.
        num_items: queries, pairs or texts that the interval was drawn from.
        subsets: main metric by language pair or the like.
        items: item id to its text, group and hits, as far as they are worth keeping.
    """

    main_metric: str
    metrics: Mapping[str, float]
    interval: Interval
    num_items: int
    per_query: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    subsets: Mapping[str, float] = field(default_factory=dict)
    items: Mapping[str, Item] = field(default_factory=dict)


Real = TypeVar("Real", np.float32, np.float64)


def unit(vectors: NDArray[Real]) -> NDArray[Real]:
    """Rows at length 1, in the given precision; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[Real] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


KEPT_ITEMS = 2_000
"""Items whose texts are kept for people to look at; a result file stays below some megabytes."""


def beginning(text: str, *, length: int = 200) -> str:
    """The first characters of a text, on one line."""
    line = " ".join(text[: 2 * length].split())
    return line if len(line) <= length else line[: length - 1] + "…"


def pair_items(first: Sequence[str], second: Sequence[str]) -> dict[str, Item]:
    """The texts of sentence pairs, by row."""
    pairs = list(zip(first, second, strict=True))[:KEPT_ITEMS]
    return {str(row): Item(f"{beginning(a)} ⟷ {beginning(b)}") for row, (a, b) in enumerate(pairs)}
