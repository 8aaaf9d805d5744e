"""What a method plans and what comes of it: items of work, and drafts of pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from opengte.contracts import ChatModel
from opengte.records import Document
from opengte.synthesis.prompts import Prompt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draft:
    """A pair as the model gave it, not looked at yet.

    Attributes:
        query: as given.
        positive: as given; empty where the document itself is the positive.
        negatives: as given.
        settings: everything that was drawn or chosen for it, but the document.
        prompts: name and fingerprint of each prompt that led to it.
    """

    query: str
    positive: str = ""
    negatives: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Ready for the journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Draft:
        """From the journal."""
        return cls(**{**value, "negatives": tuple(value["negatives"])})


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of work: one or two calls whose result is kept as one record.

    Attributes:
        key: names it in the journal; depends on what is asked, not on the order.
        make: asks the model; gives what the journal keeps.
        document: what it is about; None where it is about none.
    """

    key: str
    make: Callable[[ChatModel], dict[str, Any]]
    document: Document | None = None


class Method(Protocol):
    """A way of making pairs."""

    @property
    def prompts(self) -> Sequence[Prompt]:
        """Every prompt it may use."""
        ...

    def plan(
        self, documents: Sequence[Document], records: Mapping[str, Mapping[str, Any]]
    ) -> list[Item]:
        """All items that can be worked on, given what the journal holds.

        Called again when they are done, until it names nothing new: a method in two steps
        plans its second one from the records of the first.
        """
        ...


def drafts_record(drafts: Sequence[Draft]) -> dict[str, Any]:
    """What the journal keeps of an item that made pairs."""
    return {"drafts": [draft.as_json() for draft in drafts]}


def item_key(*parts: object) -> str:
    """A key that differs when any part does."""
    joined = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=12).hexdigest()


def generator_of(*parts: object) -> np.random.Generator:
    """Draws that depend on ``parts`` alone: the same for an item whenever it is its turn."""
    return np.random.default_rng(int(item_key("draw", *parts), 16))


def draw_one(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of ``options``."""
    return options[int(rng.integers(len(options)))]


def shown_text(document: Document, max_characters: int) -> str:
    """What a prompt shows of a document: its beginning, cut at white space."""
    text = document.full_text
    if len(text) <= max_characters:
        return text
    head, _, _ = text[: max_characters + 1].rpartition(" ")
    return (head or text[:max_characters]) + " …"
