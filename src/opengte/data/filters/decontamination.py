"""Decontamination: training texts that stand in an evaluation set, by four rules.

- ``exact``: equal after ``normalise_text``.
- ``characters``: an evaluation text of fewer than 13 words, at least 0.8 of whose character
  5-grams stand in the training text, within a stretch at most twice as long as itself (anywhere
  in a long document, most short texts would be found in pieces).
- ``words``: an evaluation text of 13 words or more that shares a run of 13 words (Brown et al.
  2020, GPT-3, appendix C).
- ``code``: code that is a near-duplicate (MinHash), however it is laid out; the rule of words
  has found it before where 13 names in a row are the same.

A training pair is contaminated when *either* side is; hard negatives that are, leave their pair.
Axes: N training texts, E evaluation texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opengte.data.filters.code_texts import looks_like_code
from opengte.data.filters.short_texts import Lookup, ShortTexts
from opengte.data.minhash import (
    NearDuplicateConfig,
    decided_pairs,
    estimated_pairs,
    signatures,
)
from opengte.data.shingles import Shingles, count_words, normalise_texts, shingle
from opengte.errors import ConfigError
from opengte.records import Pair

Rule = Literal["exact", "characters", "words", "code"]
WORDS = 13


@dataclass(frozen=True, kw_only=True)
class DecontaminationConfig:
    """What counts as contaminated.

    Attributes:
        containment: least share of an evaluation text's character 5-grams.
        min_grams: evaluation texts with fewer 5-grams are matched exactly alone, as are those
            with fewer than ``min_contained_words`` words: they stand in texts by chance.
        min_words: evaluation texts with fewer words are not looked for at all; 1 looks for all.
        code: near-duplicates of code. At 0.5 a function is found with a name or two changed;
            what was found in 12,000 real functions beyond the rule of words were copies.
    """

    containment: float = 0.8
    min_grams: int = 2
    min_contained_words: int = 4
    min_words: int = 1
    code: NearDuplicateConfig = field(
        default_factory=lambda: NearDuplicateConfig(unit="words", shingle=3, threshold=0.5)
    )

    def __post_init__(self) -> None:
        if not 0 < self.containment <= 1:
            raise ConfigError(f"containment must lie in (0, 1], got {self.containment}")
        if self.min_grams < 1:
            raise ConfigError(f"min_grams must be >= 1, got {self.min_grams}")


@dataclass(frozen=True, slots=True)
class Contamination:
    """A training text and the evaluation text that stands in it.

    Attributes:
        text: position of the training text.
        evaluation: position of the evaluation text.
        rule: by which it was found.
    """

    text: int
    evaluation: int
    rule: Rule


class Decontaminator:
    """Finds evaluation texts in training texts; a ``PairFilter``.

    Args:
        texts: E texts of evaluation sets: queries, sentences, passages, functions.
        config: what counts.
    """

    def __init__(
        self, texts: Sequence[str], *, config: DecontaminationConfig | None = None
    ) -> None:
        self.config = config or DecontaminationConfig()
        self.texts = list(texts)
        normal = normalise_texts(self.texts)
        words = count_words(self.texts)
        wanted = words >= self.config.min_words
        self._exact: dict[str, int] = {}
        for i, text in enumerate(normal):
            if text and wanted[i]:
                self._exact.setdefault(text, i)
        distinct = np.array(sorted(self._exact.values()), np.int64)
        short = distinct[words[distinct] < WORDS]
        long = distinct[words[distinct] >= WORDS]
        self._short_numbers = short[words[short] >= self.config.min_contained_words].tolist()
        self._short = ShortTexts(
            [self.texts[i] for i in self._short_numbers],
            containment=self.config.containment,
            min_grams=self.config.min_grams,
        )
        self._long = _Grams(shingle([self.texts[i] for i in long.tolist()], size=WORDS), long)
        self._code = _CodeTexts(self.texts, long, self.config.code)

    def reasons(self, pairs: Sequence[Pair]) -> list[str]:
        """Why each pair is dropped; ``""`` keeps it."""
        reasons = [""] * len(pairs)
        for side in ("query", "positive"):
            for found in self.find([getattr(pair, side) for pair in pairs]):
                reasons[found.text] = reasons[found.text] or f"in an evaluation set ({found.rule})"
        return reasons

    def negative_reasons(self, pairs: Sequence[Pair]) -> list[list[str]]:
        """Why each negative of each pair is dropped; ``""`` keeps it."""
        reasons = [[""] * len(pair.negatives) for pair in pairs]
        places = [(i, k) for i, pair in enumerate(pairs) for k in range(len(pair.negatives))]
        for found in self.find([pairs[i].negatives[k] for i, k in places]):
            i, k = places[found.text]
            reasons[i][k] = f"negative in an evaluation set ({found.rule})"
        return reasons

    def find(self, texts: Sequence[str]) -> list[Contamination]:
        """The contaminated ones among N training texts, in their order, one rule each."""
        found: dict[int, Contamination] = {}
        normal = normalise_texts(texts)
        for i, text in enumerate(normal):
            if text in self._exact:
                found[i] = Contamination(i, self._exact[text], "exact")
        rest = [i for i in range(len(texts)) if i not in found and normal[i]]
        for rule, finder in (
            ("characters", self._find_short),
            ("words", self._long.find),
            ("code", self._code.find),
        ):
            for place, evaluation in finder([texts[i] for i in rest]):
                i = rest[place]
                found.setdefault(i, Contamination(i, evaluation, rule))  # type: ignore[arg-type]
        return [found[i] for i in sorted(found)]

    def _find_short(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        return [(place, self._short_numbers[i]) for place, i in self._short.find(texts)]


class _Grams:
    """Long evaluation texts, found by any shared run of words."""

    def __init__(self, shingles: Shingles, owners: NDArray[np.int64]) -> None:
        owner = np.repeat(owners, np.diff(shingles.offsets))
        grams, first = np.unique(shingles.hashes, return_index=True)
        self._lookup = Lookup(grams)
        self._owner = owner[first]

    def find(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """(position in ``texts``, position of the evaluation text), one for each found text."""
        shingles = shingle(texts, size=WORDS)
        places, grams = self._lookup.find(shingles.hashes)
        texts_of = np.searchsorted(shingles.offsets, places, side="right") - 1
        first_texts, first = np.unique(texts_of, return_index=True)
        owners = self._owner[grams[first]]
        return list(zip(first_texts.tolist(), owners.tolist(), strict=True))


class _CodeTexts:
    """Evaluation texts that are code, found as near-duplicates."""

    def __init__(
        self, texts: Sequence[str], numbers: NDArray[np.int64], config: NearDuplicateConfig
    ) -> None:
        self._numbers = [i for i in numbers.tolist() if looks_like_code(texts[i])]
        self._texts = [texts[i] for i in self._numbers]
        self._config = config
        self._signature, _ = signatures(self._texts, config)

    def find(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """(position in ``texts``, position of the evaluation text), one for each found text."""
        if not self._texts:
            return []
        chosen = [i for i, text in enumerate(texts) if looks_like_code(text)]
        code = [texts[i] for i in chosen]
        signature, filled = signatures(code, self._config)
        places = np.flatnonzero(filled).tolist()
        both = np.concatenate([self._signature, signature[places]])
        side = (np.arange(len(both)) >= len(self._texts)).astype(np.int64)
        compared = [*self._texts, *(code[i] for i in places)]
        pairs = estimated_pairs(both, self._config, side=side)
        pairs = decided_pairs(compared, pairs, self._config)
        found: dict[int, int] = {}
        for evaluation, text in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
            place = chosen[places[text - len(self._texts)]]
            found.setdefault(place, self._numbers[evaluation])
        return list(found.items())
