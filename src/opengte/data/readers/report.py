"""What a reader read and what it left out: events in, counts by reason with examples out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class ReadReport:
    """Counts of what was read and skipped; plain, picklable, mergeable across processes.

    Nothing is left out silently: whoever skips a file or a row says why, and the first few
    of each reason are kept by name, so that a user can open one and look.

    Attributes:
        read: how many of each thing were read, e.g. ``{"files": 12, "docstring-code": 340}``.
        skipped: how many were left out, by reason.
        examples: for each reason the first ``max_examples`` places, ``path:line (detail)``.
        max_examples: how many places are kept for one reason.
    """

    read: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    max_examples: int = 5

    def count(self, what: str, number: int = 1) -> None:
        """Note that ``number`` things named ``what`` were read."""
        self.read[what] += number

    def skip(
        self,
        reason: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        detail: str = "",
    ) -> None:
        """Note that one thing was left out for ``reason``."""
        self.skipped[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if path is not None and len(kept) < self.max_examples:
            place = f"{path}" if line is None else f"{path}:{line}"
            kept.append(f"{place} ({detail})" if detail else place)

    def merge(self, other: ReadReport) -> None:
        """Add what another report counted, e.g. one that a worker process sent back."""
        self.read.update(other.read)
        self.skipped.update(other.skipped)
        for reason, places in other.examples.items():
            kept = self.examples.setdefault(reason, [])
            kept.extend(places[: self.max_examples - len(kept)])

    @property
    def num_skipped(self) -> int:
        """How many things were left out, whatever the reason."""
        return sum(self.skipped.values())

    def summary(self) -> dict[str, Any]:
        """The counts as JSON-able values, most frequent first."""
        return {
            "read": dict(self.read.most_common()),
            "skipped": dict(self.skipped.most_common()),
            "examples": {reason: list(places) for reason, places in self.examples.items()},
        }

    def __str__(self) -> str:
        lines = [f"read {number:,} {what}" for what, number in self.read.most_common()]
        reasons = self.skipped.most_common()
        for reason, number in reasons[:_MAX_SHOWN]:
            first = self.examples.get(reason, [])
            lines.append(f"skipped {number:,}: {reason}" + (f", e.g. {first[0]}" if first else ""))
        if rest := reasons[_MAX_SHOWN:]:
            number = sum(count for _, count in rest)
            lines.append(f"skipped {number:,}: for {len(rest)} rarer reasons")
        return "\n".join(lines) if lines else "nothing read, nothing skipped"


_MAX_SHOWN = 20
