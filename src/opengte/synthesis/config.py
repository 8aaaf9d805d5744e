"""The settings of synthesis: which method, how much, and what is thrown away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opengte.errors import ConfigError

BrainstormKind = Literal[
    "short_long", "long_short", "short_short", "long_long", "sts", "bitext", "grounded"
]
CraftedTask = Literal["question", "claim", "keywords", "title", "code"]

QUESTION_TYPES: dict[str, str] = {
    "keywords": "a few search words without grammar",
    "acquire_knowledge": "a question whose answer is knowledge",
    "summary": "asks for an overview",
    "yes_or_no": "a question answered by yes or no",
    "background": "tells a situation and asks for what is behind it",
}
"""The five kinds of Qwen3-Embedding (arXiv:2506.05176, appendix A.1), with our words for them."""


@dataclass(frozen=True, kw_only=True)
class GplConfig:
    """Queries for each document (GPL, arXiv:2112.07577, which uses a T5 for it: 3 a document).

    GPL's second half, negatives and a cross-encoder's scores for them, is mining with a
    ``RerankingTeacher``.

    Attributes:
        queries_per_document: asked for in one call.
    """

    kind: Literal["gpl"] = "gpl"
    queries_per_document: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.queries_per_document <= 32:
            raise ConfigError(
                f"queries_per_document must be in 1..32, got {self.queries_per_document}"
            )


@dataclass(frozen=True, kw_only=True)
class PersonaConfig:
    """Configure, then generate (Qwen3-Embedding): who asks what, and then the query.

    Attributes:
        queries_per_document: pairs of calls for each document.
        num_people: persons the model chooses from (Qwen3: the 5 nearest of a persona collection).
        people: persons, one each; ``()`` takes the fifty that come along.
        question_types, difficulties: what the model chooses from.
        lengths: words of a query; drawn.
    """

    kind: Literal["persona"] = "persona"
    queries_per_document: int = 1
    num_people: int = 5
    people: tuple[str, ...] = ()
    question_types: tuple[str, ...] = tuple(QUESTION_TYPES)
    difficulties: tuple[str, ...] = ("high_school", "university", "phd")
    lengths: tuple[int, ...] = (5, 10, 20, 40)

    def __post_init__(self) -> None:
        if self.queries_per_document < 1 or self.num_people < 1:
            raise ConfigError("queries_per_document and num_people must be >= 1")
        if not self.question_types or not self.difficulties or not self.lengths:
            raise ConfigError("question_types, difficulties and lengths must not be empty")
        if self.people and len(self.people) < self.num_people:
            raise ConfigError(
                f"num_people is {self.num_people}, but only {len(self.people)} people are given"
            )


@dataclass(frozen=True, kw_only=True)
class BrainstormConfig:
    """Two steps (E5-mistral, arXiv:2401.00368): tasks first, then examples of each.

    Attributes:
        example_kinds: ``grounded`` asks for each document under one of the tasks; the others
            need no documents (E5-mistral: the four length pairs, sts and bitext).
        num_tasks: tasks to invent for each kind that has tasks, 20 a call.
        rows_per_task: examples of each task; for sts and bitext, ``num_tasks`` x this in all.
            ``grounded`` makes one example a document instead.
        query_lengths, document_lengths: words; drawn.
        query_styles: drawn.
        difficulties: drawn.
        taste: documents shown when tasks are invented, so that they suit the collection.
    """

    kind: Literal["brainstorm"] = "brainstorm"
    example_kinds: tuple[BrainstormKind, ...] = ("grounded",)
    num_tasks: int = 40
    rows_per_task: int = 2
    query_lengths: tuple[int, ...] = (5, 10, 20)
    document_lengths: tuple[int, ...] = (50, 100, 200, 300)
    query_styles: tuple[str, ...] = (
        "common and clear",
        "long-tail and precise",
        "understood only with some effort",
    )
    difficulties: tuple[str, ...] = ("high school", "college", "PhD")
    taste: int = 5

    def __post_init__(self) -> None:
        if not self.example_kinds:
            raise ConfigError("example_kinds must not be empty")
        if self.num_tasks < 1 or self.rows_per_task < 1 or self.taste < 0:
            raise ConfigError("num_tasks and rows_per_task must be >= 1, taste >= 0")
        drawn = (self.query_lengths, self.document_lengths, self.query_styles, self.difficulties)
        if not all(drawn):
            raise ConfigError("lengths, query_styles and difficulties must not be empty")


@dataclass(frozen=True, kw_only=True)
class CraftedConfig:
    """A prompt of its own for each kind of search (Linq-Embed-Mistral, arXiv:2412.03223).

    Linq's second half, filtering by a teacher, is ``opengte.mining.filters.keep_taught``.

    Attributes:
        tasks: each document is asked about once under every task.
    """

    kind: Literal["crafted"] = "crafted"
    tasks: tuple[CraftedTask, ...] = ("question", "claim", "keywords", "title")

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("tasks must not be empty")


MethodConfig = GplConfig | PersonaConfig | BrainstormConfig | CraftedConfig


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """How pairs are made and which are kept.

    Attributes:
        method: one of the four.
        languages: of the queries; drawn. E.g. ``("English", "German")``.
        max_documents: documents asked about, drawn by seed; 0 = all.
        max_document_characters: of a document are shown, cut at white space.
        num_workers: requests under way at once.
        seed: of every draw.
        min_copied_words: a query is a leak if a run of at least so many words is copied from its
            positive, ...
        max_copied_share: ... and that run is more than this share of the query's words.
        min_cosine: pairs below this cosine of query and positive are dropped (Qwen3 0.7, with
            its own model); needs an encoder; None = off.
        max_failures_in_a_row: so many unusable answers without a good one end the run: the
            model cannot do it.
        prompts: a folder with prompt files that replace ours of the same name; empty = ours.
    """

    method: MethodConfig = GplConfig()
    languages: tuple[str, ...] = ("English",)
    max_documents: int = 0
    max_document_characters: int = 4000
    num_workers: int = 4
    seed: int = 0
    min_copied_words: int = 6
    max_copied_share: float = 0.6
    min_cosine: float | None = None
    max_failures_in_a_row: int = 25
    prompts: str = ""

    def __post_init__(self) -> None:
        if not self.languages:
            raise ConfigError("languages must not be empty")
        for name in ("max_document_characters", "num_workers", "min_copied_words"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.max_documents < 0:
            raise ConfigError(f"max_documents must be >= 0, got {self.max_documents}")
        if self.max_failures_in_a_row < 1:
            raise ConfigError(
                f"max_failures_in_a_row must be >= 1, got {self.max_failures_in_a_row}"
            )
        if not 0 <= self.max_copied_share <= 1:
            raise ConfigError(f"max_copied_share must be in [0, 1], got {self.max_copied_share}")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise ConfigError(f"min_cosine must be in [-1, 1], got {self.min_cosine}")
