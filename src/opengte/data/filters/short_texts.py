"""Short evaluation texts, found by containment of their character 5-grams.

An evaluation text of g grams is contained when c = ceil(0.8 g) of them stand in the training
text, close together. A word put in, changed or taken out inside a text breaks 3 grams or more
(one put in breaks 4, less the space that it shares), so at most (g - c) / 3 breaks part those c
into runs, and a run of r grams is r + 4 characters in a row. Hence both texts share a longer *seed*, which is rare where single 5-grams are everywhere; only where they do are grams
compared. Of a text's seeds the rarest few suffice (prefix filtering, Chaudhuri et al. 2006).
Axes: N training texts, E short evaluation texts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opengte.data.shingles import Shingles, offsets_of, shingle

CHARACTERS = 5
_SEEDS = ((2, 6), (5, 8), (10, 12))  # (least g, characters in a seed)


class ShortTexts:
    """Finds short evaluation texts inside training texts.

    Args:
        texts: E texts.
        containment: least share of the 5-grams.
        min_grams: texts with fewer 5-grams are not looked for.
    """

    def __init__(self, texts: Sequence[str], *, containment: float, min_grams: int) -> None:
        shingles = shingle(texts, unit="characters", size=CHARACTERS)
        self._grams = [shingles.of(i) for i in range(len(texts))]
        self._needed = [math.ceil(containment * len(grams) - 1e-9) for grams in self._grams]
        sizes = np.array([len(grams) for grams in self._grams], np.int64)
        self._seeds = []
        for (least, characters), after in zip(_SEEDS, (*_SEEDS[1:], (None, 0)), strict=True):
            chosen = (sizes >= max(least, min_grams)) & (after[0] is None or sizes < after[0])
            numbers = np.flatnonzero(chosen)
            if len(numbers):
                own = [texts[i] for i in numbers.tolist()]
                kept = [self._num_seeds(i, characters) for i in numbers.tolist()]
                self._seeds.append(_Seeds.of(own, numbers, characters, kept))

    def find(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """(position in ``texts``, which of the E), one for each training text that holds any."""
        parts = [seeds.candidates(texts, len(self._grams)) for seeds in self._seeds]
        if not parts:
            return []
        codes = np.unique(np.concatenate(parts))
        texts_of, candidates = np.divmod(codes, len(self._grams))
        suspects, which = np.unique(texts_of, return_inverse=True)
        suspected = [texts[i] for i in suspects.tolist()]
        shingles = shingle(suspected, unit="characters", size=CHARACTERS)
        found: dict[int, int] = {}
        for place, candidate in zip(which.tolist(), candidates.tolist(), strict=True):
            if place not in found and self._is_contained(candidate, shingles, place):
                found[place] = candidate
        return [(int(suspects[place]), candidate) for place, candidate in found.items()]

    def _num_seeds(self, number: int, characters: int) -> int:
        """How many seeds both texts share at least."""
        needed, missing = self._needed[number], len(self._grams[number]) - self._needed[number]
        lost_in_each_run = characters - CHARACTERS
        return max(1, needed - lost_in_each_run * (missing // 3 + 1))

    def _is_contained(self, candidate: int, shingles: Shingles, text: int) -> bool:
        """Whether enough grams of the candidate stand close together in the text."""
        own, needed = self._grams[candidate], self._needed[candidate]
        grams = shingles.hashes[shingles.offsets[text] : shingles.offsets[text + 1]]
        which = np.minimum(np.searchsorted(own, grams), len(own) - 1)
        places = np.flatnonzero(own[which] == grams)
        if len(np.unique(which[places])) < needed:
            return False
        return most_within(places.tolist(), which[places].tolist(), 2 * len(own)) >= needed


def most_within(places: Sequence[int], kinds: Sequence[int], width: int) -> int:
    """Most different kinds within ``width`` consecutive places (ascending)."""
    inside: Counter[int] = Counter()
    most = first = 0
    for place, kind in zip(places, kinds, strict=True):
        inside[kind] += 1
        while places[first] <= place - width:
            inside[kinds[first]] -= 1
            if not inside[kinds[first]]:
                del inside[kinds[first]]
            first += 1
        most = max(most, len(inside))
    return most


@dataclass(frozen=True, eq=False)
class _Seeds:
    """An index of the seeds of some evaluation texts.

    Attributes:
        characters: in a seed.
        lookup: finds the indexed seeds.
        postings: evaluation texts that have each seed, all in a row.
        offsets: where those of each seed begin.
    """

    characters: int
    lookup: Lookup
    postings: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        numbers: NDArray[np.int64],
        characters: int,
        shared: Sequence[int],
    ) -> _Seeds:
        """Index so many of each text's rarest seeds that one of any ``shared`` is among them."""
        shingles = shingle(texts, unit="characters", size=characters)
        own = [shingles.of(i).tolist() for i in range(len(texts))]
        counts = Counter(seed for seeds in own for seed in seeds)
        postings: dict[int, list[int]] = {}
        for number, seeds, least in zip(numbers.tolist(), own, shared, strict=True):
            rarest = sorted(seeds, key=lambda seed: (counts[seed], seed))
            for seed in rarest[: max(1, len(rarest) - least + 1)]:
                postings.setdefault(seed, []).append(number)
        indexed = sorted(postings)
        lists = [postings[seed] for seed in indexed]
        return cls(
            characters,
            Lookup(np.array(indexed, np.uint64)),
            np.array([number for each in lists for number in each], np.int64),
            offsets_of(np.array([len(each) for each in lists], np.int64)),
        )

    def candidates(self, texts: Sequence[str], num_texts: int) -> NDArray[np.int64]:
        """Codes ``text * num_texts + evaluation text`` of those that share an indexed seed."""
        shingles = shingle(texts, unit="characters", size=self.characters)
        places, seeds = self.lookup.find(shingles.hashes)
        text = np.searchsorted(shingles.offsets, places, side="right") - 1
        counts = np.diff(self.offsets)[seeds]
        start = np.repeat(self.offsets[seeds], counts)
        step = np.arange(len(start)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.unique(np.repeat(text, counts) * num_texts + self.postings[start + step])


class Lookup:
    """Finds which of many hashes are among a sorted few, most of them by one look at a table."""

    _BITS = 22

    def __init__(self, wanted: NDArray[np.uint64]) -> None:
        self._wanted = wanted
        self._maybe = np.zeros(1 << self._BITS, np.bool_)
        self._maybe[self._slots(wanted)] = True

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions in ``hashes`` of those that are wanted, and which of the wanted they are."""
        places = np.flatnonzero(self._maybe[self._slots(hashes)])
        if not len(self._wanted):
            return places[:0], places[:0]
        which = np.minimum(np.searchsorted(self._wanted, hashes[places]), len(self._wanted) - 1)
        hit = self._wanted[which] == hashes[places]
        return places[hit], which[hit]

    def _slots(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes >> np.uint64(64 - self._BITS)).astype(np.int64)
