"""Filters -> the pairs they keep, and a count of every one they do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from opengte.data.filters.containment import AnswerFilter, CopyFilter
from opengte.data.filters.contract import FilterReport, NegativeFilter, PairFilter
from opengte.data.filters.duplicates import Same
from opengte.data.filters.language import LanguageFilter
from opengte.data.filters.length import LengthFilter
from opengte.data.filters.repetition import RepetitionFilter
from opengte.data.filters.scores import ScoreFilter
from opengte.data.minhash import NearDuplicateConfig
from opengte.data.pair_rows import blocks_of_pairs
from opengte.records import Pair


@dataclass(frozen=True, kw_only=True)
class FiltersConfig:
    """Which filters a set of pairs goes through; None leaves one out. In this order they act.

    Attributes:
        length, repetition, language, score, copies, answers: see their classes.
        duplicates: drop rows that repeat an earlier ``pair``, ``query`` or ``positive`` among
            what the filters above leave of all sources; GTE drops exact pairs alone.
        near_duplicates: drop rows whose sides are both near-duplicates of an earlier row's in
            the same source.
    """

    length: LengthFilter | None = None
    repetition: RepetitionFilter | None = None
    language: LanguageFilter | None = None
    score: ScoreFilter | None = None
    copies: CopyFilter | None = None
    answers: AnswerFilter | None = None
    duplicates: Same | None = None
    near_duplicates: NearDuplicateConfig | None = None

    def row_filters(self) -> list[PairFilter]:
        """Those that judge pairs one by one."""
        given: list[PairFilter | None] = [
            self.length,
            self.repetition,
            self.language,
            self.score,
            self.copies,
            self.answers,
        ]
        return [each for each in given if each is not None]


def filter_pairs(
    pairs: Iterable[Pair],
    filters: Sequence[PairFilter],
    *,
    report: FilterReport | None = None,
) -> Iterator[Pair]:
    """Yield the pairs that every filter keeps, in their order.

    Args:
        pairs: any number, one block in memory at a time.
        filters: the first that gives a reason drops the pair. Those that judge negatives too
            take negatives away from the pairs that stay.
        report: counts what was dropped and why.
    """
    report = FilterReport() if report is None else report
    for block in blocks_of_pairs(pairs, max_pairs=8192, max_characters=1 << 23):
        report.num_pairs += len(block)
        kept = list(block)
        for each in filters:
            kept = _judged(kept, each, report)
        report.num_kept += len(kept)
        yield from kept


def _judged(pairs: list[Pair], judge: PairFilter, report: FilterReport) -> list[Pair]:
    kept = []
    for pair, reason in zip(pairs, judge.reasons(pairs), strict=True):
        if reason:
            report.drop(reason, pair)
        else:
            kept.append(pair)
    if isinstance(judge, NegativeFilter):
        return _without_negatives(kept, judge, report)
    return kept


def _without_negatives(
    pairs: list[Pair], judge: NegativeFilter, report: FilterReport
) -> list[Pair]:
    kept = []
    for pair, reasons in zip(pairs, judge.negative_reasons(pairs), strict=True):
        for negative, reason in zip(pair.negatives, reasons, strict=True):
            if reason:
                report.drop_negative(reason, pair, negative)
        if any(reasons):
            stay = [i for i, reason in enumerate(reasons) if not reason]
            scores = pair.negative_scores
            pair = replace(
                pair,
                negatives=tuple(pair.negatives[i] for i in stay),
                negative_scores=tuple(scores[i] for i in stay) if scores else (),
            )
        kept.append(pair)
    return kept
