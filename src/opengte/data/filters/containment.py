"""Containment: positives that lack the answer, negatives that hold it, copies of the query.

Whether a text holds an answer is told as in open-domain question answering (Karpukhin et al.
2020, DPR, "has_answer"): the answer's words stand in it, one after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opengte.data.shingles import count_words, normalise_texts
from opengte.errors import ConfigError
from opengte.records import Pair


def contains_answer(texts: Sequence[str], answers: Sequence[str]) -> list[bool]:
    """Whether the words of any of ``answers`` stand in each text, one after another.

    Case, punctuation and width do not matter; an answer without a letter is in no text.
    """
    wanted = [f" {answer} " for answer in normalise_texts(answers) if answer]
    spaced = [f" {text} " for text in normalise_texts(texts)]
    return [any(_holds(text, answer) for answer in wanted) for text in spaced]


def _holds(text: str, answer: str) -> bool:
    """Both begin and end with a space; scripts without spaces may match inside."""
    bare = answer.strip()
    return answer in text or (not bare.isascii() and bare in text)


@dataclass(frozen=True, kw_only=True)
class AnswerFilter:
    """Keep question and passage together only where the passage holds the answer.

    Attributes:
        answers: known answers by question; pairs with other questions are kept.
        max_answer_words: where a question is not among ``answers`` and the pair's positive has
            at most so many words, the positive itself is the answer that negatives must not
            hold. 0 = never.
    """

    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    max_answer_words: int = 5

    def __post_init__(self) -> None:
        if self.max_answer_words < 0:
            raise ConfigError(f"max_answer_words must be >= 0, got {self.max_answer_words}")

    def reasons(self, pairs: Sequence[Pair]) -> list[str]:
        """Why each pair is dropped; ``""`` keeps it."""
        return [
            "positive lacks the answer"
            if pair.query in self.answers
            and not contains_answer([pair.positive], self.answers[pair.query])[0]
            else ""
            for pair in pairs
        ]

    def negative_reasons(self, pairs: Sequence[Pair]) -> list[list[str]]:
        """Why each negative of each pair is dropped; ``""`` keeps it."""
        words = count_words([pair.positive for pair in pairs]).tolist()
        return [self._of_pair(pair, number) for pair, number in zip(pairs, words, strict=True)]

    def _of_pair(self, pair: Pair, words: int) -> list[str]:
        answers = self.answers.get(pair.query)
        if answers is None:
            answers = [pair.positive] if words <= self.max_answer_words else []
        held = contains_answer(pair.negatives, answers)
        return ["negative holds the answer" if holds else "" for holds in held]


@dataclass(frozen=True, kw_only=True)
class CopyFilter:
    """Drop pairs that can be matched by copying: one side stands in the other.

    Attributes:
        min_words: queries with fewer words may stand in their positives; a name does.
        max_share: a query is a copy when it makes up more than this share of the positive's
            words; 0 counts a query anywhere in the text.
    """

    min_words: int = 3
    max_share: float = 0.5

    def reasons(self, pairs: Sequence[Pair]) -> list[str]:
        """Why each pair is dropped; ``""`` keeps it."""
        queries = normalise_texts([pair.query for pair in pairs])
        positives = normalise_texts([pair.positive for pair in pairs])
        sizes = zip(count_words(queries).tolist(), count_words(positives).tolist(), strict=True)
        return [
            self._reason(query, positive, *size)
            for query, positive, size in zip(queries, positives, sizes, strict=True)
        ]

    def _reason(self, query: str, positive: str, words: int, of: int) -> str:
        if query == positive:
            return "sides are the same text"
        is_long = words >= self.min_words and words > self.max_share * of
        return "positive copies the query" if is_long and query in positive else ""
