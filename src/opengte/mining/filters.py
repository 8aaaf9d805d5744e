"""Judged pairs -> the pairs worth training on, every one of the others counted with its reason.

Sources: consistency filter, E5 (arXiv:2212.03533, section 3.2: the positive ranks in the top 2
of a million random passages); score thresholds, Conan-embedding (arXiv:2408.15710, 0.4), BGE
(arXiv:2309.07597, 0.43), Qwen3-Embedding (arXiv:2506.05176, 0.7); teacher filtering,
Linq-Embed-Mistral (arXiv:2412.03223): keep what contains the answer or is ranked high.

A threshold means nothing without the model it was chosen for: each of those papers names
another one. Look at the quantiles of the report first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from opengte.errors import ConfigError
from opengte.mining.examples import evenly, score_quantiles, shorten
from opengte.mining.judging import BEYOND, Judgement
from opengte.records import Pair
from opengte.text.text_keys import contains_run, words


@dataclass(frozen=True, slots=True)
class FilterExample:
    """One pair and what the teacher said of it; texts are cut to 400 characters."""

    query: str
    positive: str
    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Fate:
    """Pairs that were kept, or dropped, for one reason.

    Attributes:
        count: how many.
        share: of all pairs.
        score_quantiles: of the teacher's scores.
        examples: up to twenty, at even distances.
    """

    count: int
    share: float
    score_quantiles: Mapping[str, float]
    examples: tuple[FilterExample, ...]


@dataclass(frozen=True, slots=True)
class FilterReport:
    """What a filter did, by reason."""

    num_pairs: int
    num_kept: int
    kept: Mapping[str, Fate]
    dropped: Mapping[str, Fate]

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FilterResult:
    """The pairs that stay, in their order, and the report."""

    pairs: list[Pair]
    report: FilterReport


def keep_consistent(pairs: Sequence[Pair], judged: Judgement, *, top_k: int = 2) -> FilterResult:
    """Keep pairs whose positive ranks in the top k of the pool (E5: 2 of 1,000,000)."""
    if not 1 <= top_k <= judged.depth:
        raise ConfigError(
            f"top_k must be between 1 and the judged depth {judged.depth}, got {top_k}"
        )

    def reason(number: int) -> tuple[bool, str]:
        in_top = judged.ranks[number] != BEYOND and judged.ranks[number] <= top_k
        return bool(in_top), "in_top_k" if in_top else "not_in_top_k"

    return _sort_out(pairs, judged, reason)


def keep_scored(pairs: Sequence[Pair], judged: Judgement, *, min_score: float) -> FilterResult:
    """Keep pairs that the teacher scores at least ``min_score`` (Conan 0.4, BGE 0.43)."""

    def reason(number: int) -> tuple[bool, str]:
        enough = judged.scores[number] >= np.float32(min_score)
        return bool(enough), "score_reached" if enough else "score_too_low"

    return _sort_out(pairs, judged, reason)


def keep_taught(
    pairs: Sequence[Pair],
    judged: Judgement,
    *,
    answer_of: Callable[[Pair], str | None],
    top_k: int = 10,
) -> FilterResult:
    """Keep pairs whose positive contains the answer or is ranked high by the teacher (Linq).

    Args:
        pairs: N pairs.
        judged: the teacher's judgement of them.
        answer_of: the short answer of a pair where it is known, else None.
        top_k: what counts as high; Linq gives no figure.
    """
    if not 1 <= top_k <= judged.depth:
        raise ConfigError(
            f"top_k must be between 1 and the judged depth {judged.depth}, got {top_k}"
        )

    def reason(number: int) -> tuple[bool, str]:
        answer = answer_of(pairs[number])
        if answer is not None and contains_run(words(pairs[number].positive), words(answer)):
            return True, "contains_the_answer"
        high = judged.ranks[number] != BEYOND and judged.ranks[number] <= top_k
        return bool(high), "ranked_high" if high else "no_answer_and_ranked_low"

    return _sort_out(pairs, judged, reason)


def _sort_out(
    pairs: Sequence[Pair], judged: Judgement, reason: Callable[[int], tuple[bool, str]]
) -> FilterResult:
    if len(pairs) != len(judged.scores):
        raise ConfigError(
            f"the judgement is of {len(judged.scores)} pairs, but {len(pairs)} were given"
        )
    kept: list[Pair] = []
    fates: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
    for number, pair in enumerate(pairs):
        stays, why = reason(number)
        fates[stays].setdefault(why, []).append(number)
        if stays:
            kept.append(pair)
    report = FilterReport(
        num_pairs=len(pairs),
        num_kept=len(kept),
        kept={why: _fate(numbers, pairs, judged) for why, numbers in fates[True].items()},
        dropped={why: _fate(numbers, pairs, judged) for why, numbers in fates[False].items()},
    )
    return FilterResult(pairs=kept, report=report)


def _fate(numbers: list[int], pairs: Sequence[Pair], judged: Judgement) -> Fate:
    return Fate(
        count=len(numbers),
        share=len(numbers) / len(pairs),
        score_quantiles=score_quantiles(judged.scores[numbers]),
        examples=tuple(
            FilterExample(
                query=shorten(pairs[numbers[i]].query),
                positive=shorten(pairs[numbers[i]].positive),
                score=round(float(judged.scores[numbers[i]]), 6),
                rank=int(judged.ranks[numbers[i]]),
            )
            for i in evenly(len(numbers))
        ),
    )
