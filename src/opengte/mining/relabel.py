"""Pairs with negatives and a judge -> pairs whose false negatives were found and mended.

A mined "negative" that a better model scores like an answer most likely is one. Source for the
three ways of mending: Thakur et al. 2025, "Fixing Data That Hurts Performance"
(arXiv:2505.16967), who judge with a large model; here any teacher judges. Axes: N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import TextEncoder
from opengte.errors import ConfigError, DataError
from opengte.mining.examples import evenly, score_quantiles, shorten
from opengte.mining.mine import as_teacher
from opengte.mining.teachers import Scores, Teacher
from opengte.records import Pair
from opengte.text.text_keys import text_key

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class RelabelRules:
    """When a negative counts as an answer, and what is then done.

    Attributes:
        perc_pos: a negative counts as an answer above this share of the positive's score, by
            the same border as in mining: p - (1 - share) |p|. 1 = at the positive's own score.
            None = off.
        min_score: a negative also must reach this score of its own to count. None = off.
        action: ``promote`` makes it a positive of a pair of its own, with the true negatives;
            ``remove`` takes it out of the negatives; ``discard`` drops the whole pair.
    """

    perc_pos: float | None = 1.0
    min_score: float | None = None
    action: Literal["promote", "remove", "discard"] = "remove"

    def __post_init__(self) -> None:
        if self.perc_pos is None and self.min_score is None:
            raise ConfigError("relabelling needs perc_pos, min_score or both")
        if self.perc_pos is not None and self.perc_pos <= 0:
            raise ConfigError(f"perc_pos must be > 0, got {self.perc_pos}")


@dataclass(frozen=True, slots=True)
class FalseNegative:
    """A negative that the judge takes for an answer; texts are cut to 400 characters."""

    query: str
    positive: str
    negative: str
    positive_score: float
    negative_score: float


@dataclass(frozen=True, slots=True)
class RelabelReport:
    """What relabelling did.

    Attributes:
        num_pairs, num_negatives: that came in.
        num_false_negatives: negatives that the judge takes for answers.
        num_pairs_touched: pairs with at least one.
        num_promoted, num_removed, num_discarded: what was done, as the action says.
        num_pairs_out: pairs that went out.
        positive_score_quantiles, true_negative_score_quantiles,
            false_negative_score_quantiles: the judge's scores.
        examples: up to twenty false negatives, at even distances.
    """

    num_pairs: int
    num_negatives: int
    num_false_negatives: int
    num_pairs_touched: int
    num_promoted: int
    num_removed: int
    num_discarded: int
    num_pairs_out: int
    positive_score_quantiles: dict[str, float]
    true_negative_score_quantiles: dict[str, float]
    false_negative_score_quantiles: dict[str, float]
    examples: tuple[FalseNegative, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RelabelResult:
    """The mended pairs and the report."""

    pairs: list[Pair]
    report: RelabelReport


def relabel_false_negatives(
    pairs: Sequence[Pair],
    judge: Teacher | TextEncoder,
    rules: RelabelRules | None = None,
    *,
    folder: str | Path,
    block_pairs: int = 1024,
) -> RelabelResult:
    """Find negatives that answer their query after all.

    Args:
        pairs: N pairs with negatives; pairs without any are passed on.
        judge: should be better than the teacher that mined them, a cross-encoder for one.
        rules: None = the defaults of ``RelabelRules``.
        folder: where the judge keeps embedded texts.
        block_pairs: pairs judged at once.
    """
    if not pairs:
        raise DataError("there are no pairs to relabel")
    rules = RelabelRules() if rules is None else rules
    texts, rows = _texts_and_rows(pairs)
    ranker = as_teacher(judge).open(texts, folder=Path(folder))
    scores: list[Scores] = []
    for first in range(0, len(pairs), block_pairs):
        part = slice(first, first + block_pairs)
        scores += ranker.score([pair.query for pair in pairs[part]], rows[part])
    false = [_false_negatives(own[0], own[1:], rules) for own in scores]
    out = [
        mended
        for pair, mask in zip(pairs, false, strict=True)
        for mended in _mend(pair, mask, rules.action)
    ]
    return RelabelResult(pairs=out, report=_report(pairs, scores, false, rules.action, len(out)))


def _report(
    pairs: Sequence[Pair],
    scores: Sequence[Scores],
    false: Sequence[Mask],
    action: str,
    num_pairs_out: int,
) -> RelabelReport:
    sizes = [len(mask) for mask in false]
    owners = np.repeat(np.arange(len(pairs)), sizes)
    places = np.concatenate([np.arange(size) for size in sizes])
    negatives = np.concatenate([own[1:] for own in scores])
    is_false = np.concatenate(false)
    found = np.flatnonzero(is_false)
    num_false, touched = len(found), len(np.unique(owners[found]))
    return RelabelReport(
        num_pairs=len(pairs),
        num_negatives=len(negatives),
        num_false_negatives=num_false,
        num_pairs_touched=touched,
        num_promoted=num_false if action == "promote" else 0,
        num_removed=num_false if action == "remove" else 0,
        num_discarded=touched if action == "discard" else 0,
        num_pairs_out=num_pairs_out,
        positive_score_quantiles=score_quantiles([own[0] for own in scores]),
        true_negative_score_quantiles=score_quantiles(negatives[~is_false]),
        false_negative_score_quantiles=score_quantiles(negatives[is_false]),
        examples=tuple(
            _example(pairs[owners[i]], scores[owners[i]], int(places[i]))
            for i in found[evenly(num_false)].tolist()
        ),
    )


def _texts_and_rows(pairs: Sequence[Pair]) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Every distinct text once; of each pair the rows of its positive and its negatives."""
    texts: list[str] = []
    row_of: dict[int, int] = {}

    def row(text: str) -> int:
        key = text_key(text)
        if key not in row_of:
            row_of[key] = len(texts)
            texts.append(text)
        return row_of[key]

    rows = [
        np.array([row(pair.positive), *map(row, pair.negatives)], dtype=np.int64) for pair in pairs
    ]
    return texts, rows


def _false_negatives(positive: np.float32, negatives: Scores, rules: RelabelRules) -> Mask:
    false = np.ones(len(negatives), dtype=bool)
    if rules.perc_pos is not None:
        false &= negatives > positive - (1 - rules.perc_pos) * abs(positive)
    if rules.min_score is not None:
        false &= negatives >= np.float32(rules.min_score)
    return false


def _mend(pair: Pair, false: Mask, action: str) -> list[Pair]:
    if not false.any():
        return [pair]
    if action == "discard":
        return []
    true = (~false).tolist()
    kept = replace(
        pair,
        negatives=tuple(compress(pair.negatives, true)),
        negative_scores=tuple(compress(pair.negative_scores, true)),
    )
    if action == "remove":
        return [kept]
    answers = compress(pair.negatives, false.tolist())
    return [kept, *(replace(kept, positive=answer, score=None) for answer in answers)]


def _example(pair: Pair, scores: Scores, place: int) -> FalseNegative:
    return FalseNegative(
        query=shorten(pair.query),
        positive=shorten(pair.positive),
        negative=shorten(pair.negatives[place]),
        positive_score=round(float(scores[0]), 6),
        negative_score=round(float(scores[place + 1]), 6),
    )
