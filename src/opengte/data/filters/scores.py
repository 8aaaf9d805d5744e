"""Scores: pairs that a label, a vote or a teacher thinks little of.

Votes of posts are known to the readers of dumps alone (``read_stack_exchange(min_score=...)``);
what they pass on as a pair's score is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opengte.errors import ConfigError
from opengte.records import Pair


@dataclass(frozen=True, kw_only=True)
class ScoreFilter:
    """Drop pairs by their score, and by how their negatives compare to it.

    Attributes:
        min_score: least score of a pair, in [0, 1]; pairs without a score stay.
        margin: a pair is dropped when its best negative has a teacher's score above the
            positive's less this; None does not look. NV-Retriever keeps negatives under 95 % of
            the positive's score, which mining does; here whole pairs are judged.
    """

    min_score: float = 0.0
    margin: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"min_score must lie in [0, 1], got {self.min_score}")

    def reasons(self, pairs: Sequence[Pair]) -> list[str]:
        """Why each pair is dropped; ``""`` keeps it."""
        return [self._reason(pair) for pair in pairs]

    def _reason(self, pair: Pair) -> str:
        if pair.score is None:
            return ""
        if pair.score < self.min_score:
            return "score too low"
        if self.margin is None or not pair.negative_scores:
            return ""
        too_close = max(pair.negative_scores) > pair.score - self.margin
        return "a negative scores as high as the positive" if too_close else ""
