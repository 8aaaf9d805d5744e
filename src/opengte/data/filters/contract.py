"""What a filter is, and what it leaves behind: a reason for every pair it drops, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from opengte.records import Pair


class PairFilter(Protocol):
    """Judges pairs one by one, a block at a time; it remembers nothing between blocks."""

    def reasons(self, pairs: Sequence[Pair]) -> list[str]:
        """Why each pair is dropped; ``""`` keeps it. Reasons name a rule, not the text."""
        ...


@runtime_checkable
class NegativeFilter(Protocol):
    """Judges the hard negatives of pairs that are kept."""

    def negative_reasons(self, pairs: Sequence[Pair]) -> list[list[str]]:
        """Why each negative of each pair is dropped; ``""`` keeps it."""
        ...


@dataclass
class FilterReport:
    """What filters did.

    Attributes:
        num_pairs: pairs that came in.
        num_kept: pairs that went on.
        dropped: pairs dropped, by reason.
        negatives_dropped: hard negatives dropped, by reason.
        examples: for each reason the first few texts, cut to a readable length.
    """

    num_pairs: int = 0
    num_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    negatives_dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    max_examples: int = 5

    def drop(self, reason: str, pair: Pair) -> None:
        """Count a dropped pair."""
        self.dropped[reason] += 1
        self._show(reason, pair)

    def drop_negative(self, reason: str, pair: Pair, negative: str) -> None:
        """Count a dropped negative."""
        self.negatives_dropped[reason] += 1
        self._show(reason, Pair(pair.query, negative))

    def merge(self, other: FilterReport) -> None:
        """Add what another report counted."""
        self.num_pairs += other.num_pairs
        self.num_kept += other.num_kept
        self.dropped.update(other.dropped)
        self.negatives_dropped.update(other.negatives_dropped)
        for reason, texts in other.examples.items():
            kept = self.examples.setdefault(reason, [])
            kept += texts[: self.max_examples - len(kept)]

    def summary(self) -> dict[str, Any]:
        """JSON-able, most frequent reasons first."""
        return {
            "num_pairs": self.num_pairs,
            "num_kept": self.num_kept,
            "dropped": dict(self.dropped.most_common()),
            "negatives_dropped": dict(self.negatives_dropped.most_common()),
            "examples": {reason: list(texts) for reason, texts in self.examples.items()},
        }

    def _show(self, reason: str, pair: Pair) -> None:
        kept = self.examples.setdefault(reason, [])
        if len(kept) < self.max_examples:
            kept.append(f"{pair.query[:80]!r} = {pair.positive[:120]!r}")
