"""A store and evaluation sets -> a verdict on each: zero-shot, in-domain train, or leaked.

``leaked``: texts that are measured with stand in the training pairs, by the rules of
``filters.decontamination``; texts under three words are not looked for, they recur by chance.
``in-domain train``: none does, but the set's own train split or its documents do.
``zero-shot``: neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress
from opengte.data.evaluation_sets import EvaluationSet
from opengte.data.filters.decontamination import DecontaminationConfig, Decontaminator
from opengte.data.pair_rows import PairRows
from opengte.data.shingles import count_words, normalise_texts
from opengte.data.sources import Source

Verdict = Literal["zero-shot", "in-domain train", "leaked"]
MIN_WORDS = 3
_ROWS = 8192


@dataclass(frozen=True)
class LeakedRow:
    """A training text in which an evaluation text was found."""

    source: str
    row: int
    side: str
    rule: str
    text: str
    evaluation_text: str


@dataclass(frozen=True)
class SetVerdict:
    """What training on a store means for one evaluation set.

    Attributes:
        name, split: of the set, and what of it is measured with.
        verdict: see the module.
        num_rows: rows that are measured with.
        num_leaked: of these, rows with a text that stands in the training pairs.
        by_source: leaked rows by the source that holds them.
        by_rule: training texts found, by rule.
        num_training: texts of the set's train split that stand in the pairs, of ``of_training``.
        num_corpus: documents of the set that do, of ``of_corpus``.
        rows: some of the training rows found.
    """

    name: str
    split: str
    verdict: Verdict
    num_rows: int
    num_leaked: int
    by_source: dict[str, int] = field(default_factory=dict)
    by_rule: dict[str, int] = field(default_factory=dict)
    num_training: int = 0
    of_training: int = 0
    num_corpus: int = 0
    of_corpus: int = 0
    rows: tuple[LeakedRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every field, JSON-able."""
        return asdict(self)


def judge_evaluation_sets(
    sources: Sequence[Source],
    sets: Sequence[EvaluationSet],
    *,
    max_rows: int = 20,
    progress: Progress | None = None,
) -> list[SetVerdict]:
    """Look for every set's texts in every pair of every source.

    Args:
        sources: of a store, or in memory.
        sets: evaluation sets.
        max_rows: most training rows shown for a set.
        progress: told how many pairs have been read.
    """
    if not sets:
        return []
    wanted = _Wanted(sets)
    findings = [_Findings() for _ in sets]
    total, done = sum(len(source.rows) for source in sources), 0
    for source in sources:
        for side, rows, texts in _distinct_texts(source.rows):
            normal = normalise_texts(texts)
            wanted.note_material(normal, findings)
            for found in wanted.leaks.find(texts):
                shown = (source.name, int(rows[found.text]), side, found.rule, texts[found.text])
                wanted.note_leak(found.evaluation, shown, findings, max_rows)
        done += len(source.rows)
        if progress is not None:
            progress(done, total)
    return [
        _verdict(each, found, wanted.num_material[number])
        for number, (each, found) in enumerate(zip(sets, findings, strict=True))
    ]


@dataclass
class _Findings:
    """What has been found of one set so far."""

    rows: set[int] = field(default_factory=set)
    by_source: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    by_rule: Counter[str] = field(default_factory=Counter)
    training: set[str] = field(default_factory=set)
    corpus: set[str] = field(default_factory=set)
    shown: list[LeakedRow] = field(default_factory=list)


class _Wanted:
    """The texts of all sets, each known by the sets and rows that it stands in."""

    def __init__(self, sets: Sequence[EvaluationSet]) -> None:
        texts = [text for each in sets for row in each.measured for text in row]
        owners = [
            (number, place)
            for number, each in enumerate(sets)
            for place, row in enumerate(each.measured)
            for _ in row
        ]
        self._of: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._distinct: list[str] = []
        first: dict[str, int] = {}
        keep = count_words(texts) >= MIN_WORDS
        for text, normal, owner, long in zip(
            texts, normalise_texts(texts), owners, keep.tolist(), strict=True
        ):
            if long and normal not in first:
                first[normal] = len(self._distinct)
                self._distinct.append(text)
            self._of[normal].append(owner)
        self._normal = list(first)
        self.leaks = Decontaminator(self._distinct, config=DecontaminationConfig())
        self._training = _by_text([each.training for each in sets])
        self._corpus = _by_text([each.corpus for each in sets])
        self.num_material = [
            (len({*normalise_texts(each.training)}), len({*normalise_texts(each.corpus)}))
            for each in sets
        ]

    def note_material(self, normal: Sequence[str], findings: Sequence[_Findings]) -> None:
        """Note train splits' texts and documents among some training texts."""
        for text in normal:
            for number in self._training.get(text, ()):
                findings[number].training.add(text)
            for number in self._corpus.get(text, ()):
                findings[number].corpus.add(text)

    def note_leak(
        self,
        evaluation: int,
        shown: tuple[str, int, str, str, str],
        findings: Sequence[_Findings],
        max_rows: int,
    ) -> None:
        """Note a found text for every set that measures with it."""
        source, row, side, rule, text = shown
        for number in {number for number, _ in self._of[self._normal[evaluation]]}:
            found = findings[number]
            places = {p for n, p in self._of[self._normal[evaluation]] if n == number}
            found.rows |= places
            found.by_source[source] |= places
            found.by_rule[rule] += 1
            if len(found.shown) < max_rows:
                evaluated = self._distinct[evaluation]
                found.shown.append(LeakedRow(source, row, side, rule, text[:300], evaluated[:300]))


def _by_text(texts_of_sets: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Normal text to the sets it belongs to; texts too short to mean anything left out."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, texts in enumerate(texts_of_sets):
        long = count_words(texts) >= MIN_WORDS
        normal = normalise_texts(texts)
        for text in {t for t, keep in zip(normal, long.tolist(), strict=True) if keep}:
            found[text].append(number)
    return dict(found)


def _distinct_texts(rows: PairRows) -> Iterator[tuple[str, NDArray[np.int64], list[str]]]:
    """Side, row numbers and texts, block by block; each text of the two sides once a source."""
    seen = np.zeros(0, np.uint64)
    for side in ("query", "positive"):
        hashes, first = np.unique(rows.numbers(f"{side}_hash"), return_index=True)
        fresh = np.sort(first[~np.isin(hashes, seen)])
        seen = hashes
        for block in _blocks(fresh):
            taken = rows.take(block)
            yield side, block, taken.queries if side == "query" else taken.positives
    if not rows.has("negatives"):
        return
    for block in _blocks(np.arange(len(rows))):
        row_of: dict[str, int] = {}
        for row, texts in zip(block.tolist(), rows.take(block).negatives or [], strict=False):
            row_of.update((text, row) for text in texts if text not in row_of)
        yield "negative", np.array(list(row_of.values()), np.int64), list(row_of)


def _blocks(numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for begin in range(0, len(numbers), _ROWS):
        yield numbers[begin : begin + _ROWS]


def _verdict(each: EvaluationSet, found: _Findings, material: tuple[int, int]) -> SetVerdict:
    verdict: Verdict = "zero-shot"
    if found.rows:
        verdict = "leaked"
    elif found.training or found.corpus:
        verdict = "in-domain train"
    by_source = {name: len(rows) for name, rows in found.by_source.items()}
    return SetVerdict(
        name=each.name,
        split=each.split,
        verdict=verdict,
        num_rows=len(each.measured),
        num_leaked=len(found.rows),
        by_source=dict(sorted(by_source.items(), key=lambda item: -item[1])),
        by_rule=dict(found.by_rule.most_common()),
        num_training=len(found.training),
        of_training=material[0],
        num_corpus=len(found.corpus),
        of_corpus=material[1],
        rows=tuple(found.shown),
    )
