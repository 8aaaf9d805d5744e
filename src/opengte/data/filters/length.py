"""Length: pairs with a side too short, too long, or out of proportion to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opengte.data.shingles import count_words
from opengte.errors import ConfigError
from opengte.records import Pair


@dataclass(frozen=True, kw_only=True)
class LengthFilter:
    """Drop pairs by the number of words of their sides; a Chinese character is a word.

    E5 and GTE drop community questions and answers that are very short or very long; neither
    paper prints the bounds.

    Attributes:
        min_query_words, max_query_words: of the query; None = no bound.
        min_positive_words, max_positive_words: of the positive.
        max_ratio: of the longer side's words to the shorter side's (parallel text).
    """

    min_query_words: int = 1
    max_query_words: int | None = None
    min_positive_words: int = 1
    max_positive_words: int | None = None
    max_ratio: float | None = None

    def __post_init__(self) -> None:
        for side in ("query", "positive"):
            least, most = getattr(self, f"min_{side}_words"), getattr(self, f"max_{side}_words")
            if most is not None and most < least:
                raise ConfigError(f"max_{side}_words {most} is less than min_{side}_words {least}")
        if self.max_ratio is not None and self.max_ratio < 1:
            raise ConfigError(f"max_ratio must be >= 1, got {self.max_ratio}")

    def reasons(self, pairs: Sequence[Pair]) -> list[str]:
        """Why each pair is dropped; ``""`` keeps it."""
        queries = count_words([pair.query for pair in pairs]).tolist()
        positives = count_words([pair.positive for pair in pairs]).tolist()
        return [self._reason(q, p) for q, p in zip(queries, positives, strict=True)]

    def _reason(self, query: int, positive: int) -> str:
        if query < self.min_query_words:
            return "query too short"
        if self.max_query_words is not None and query > self.max_query_words:
            return "query too long"
        if positive < self.min_positive_words:
            return "positive too short"
        if self.max_positive_words is not None and positive > self.max_positive_words:
            return "positive too long"
        if self.max_ratio is not None and max(query, positive) > self.max_ratio * min(
            query, positive
        ):
            return "lengths out of proportion"
        return ""
