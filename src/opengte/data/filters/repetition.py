"""Repetition: texts that say the same again and again, by the rules of Gopher.

Rae et al. 2021 (arXiv:2112.11446), table A1, drop a document when more than 30 % of its lines
are duplicates, or more than 15 % of its characters stand in duplicated 5-grams of words. They
count characters of web pages; here it is windows of words of single texts, many of them short,
so the default is looser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opengte.data.shingles import Shingles, shingle
from opengte.errors import ConfigError
from opengte.records import Pair


@dataclass(frozen=True, kw_only=True)
class RepetitionFilter:
    """Drop pairs with a side that repeats itself.

    Attributes:
        max_repeated_runs: share of a text's runs of ``run_words`` words that stood in it before.
        run_words: words in a run; Gopher's longest are 10, its shortest 5.
        max_repeated_lines: share of lines that stood in the text before.
        min_words: texts with fewer words are never dropped: short ones repeat by chance.
        min_lines: likewise for the rule of lines.
    """

    max_repeated_runs: float = 0.3
    run_words: int = 5
    max_repeated_lines: float = 0.3
    min_words: int = 20
    min_lines: int = 6

    def __post_init__(self) -> None:
        for name in ("max_repeated_runs", "max_repeated_lines"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.run_words < 1:
            raise ConfigError(f"run_words must be >= 1, got {self.run_words}")

    def reasons(self, pairs: Sequence[Pair]) -> list[str]:
        """Why each pair is dropped; ``""`` keeps it."""
        texts = [pair.query for pair in pairs] + [pair.positive for pair in pairs]
        runs = shingle(texts, unit="words", size=self.run_words)
        repeated = repeated_shares(runs) > self.max_repeated_runs
        long_enough = np.diff(runs.offsets) > self.min_words - self.run_words
        by_runs: list[bool] = np.any((repeated & long_enough).reshape(2, -1), axis=0).tolist()
        return [
            "repeats its words"
            if again
            else "repeats its lines"
            if self._repeats_lines(pair.query) or self._repeats_lines(pair.positive)
            else ""
            for again, pair in zip(by_runs, pairs, strict=True)
        ]

    def _repeats_lines(self, text: str) -> bool:
        if text.count("\n") + 1 < self.min_lines:
            return False
        # Lines of marks alone (closing braces, rules) repeat in any program or table.
        lines = [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]
        if len(lines) < self.min_lines:
            return False
        again = sum(number - 1 for number in Counter(lines).values())
        return again > self.max_repeated_lines * len(lines)


def repeated_shares(shingles: Shingles) -> NDArray[np.float64]:
    """Share of each text's shingles that stood in it before, (N,)."""
    counts = np.diff(shingles.offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((shingles.hashes, owner))
    ordered, owners = shingles.hashes[order], owner[order]
    again = (ordered[1:] == ordered[:-1]) & (owners[1:] == owners[:-1])
    repeats = np.bincount(owners[1:][again], minlength=len(counts))
    return repeats / np.maximum(counts, 1)
