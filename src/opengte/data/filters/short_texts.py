"""Short evaluation texts, found by containment of their character 5-grams.

An evaluation text of g grams is contained when c = ceil(0.8 g) of them stand in the training
text, close together. A word put in, changed or taken out inside a text breaks 3 grams or more
(one put in breaks 4, less the space that it shares), so at most (g - c) / 3 breaks part those c
into runs, and a run of r grams is r + 4 characters in a row. Hence both texts share several
longer *seeds*, which are rare where single 5-grams are everywhere; only where they do are grams
compared. Of a text's seeds its rarest suffice: of n, m of which are shared, any n - m + k hold k
of the shared (prefix filtering, Chaudhuri et al. 2006).
Axes: N training texts, E short evaluation texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opengte.data.shingles import Shingles, mix, offsets_of, shingle

CHARACTERS = 5
_SEEDS = ((2, 6), (5, 8), (10, 12))  # (least g, characters in a seed)
_HITS = 4  # k: more drop more candidates unseen, and index more common seeds


class ShortTexts:
    """Finds short evaluation texts inside training texts.

    Args:
        texts: E texts.
        containment: least share of the 5-grams.
        min_grams: texts with fewer 5-grams are not looked for.
    """

    def __init__(self, texts: Sequence[str], *, containment: float, min_grams: int) -> None:
        self._grams = _Sets.of(shingle(texts, unit="characters", size=CHARACTERS))
        sizes = np.diff(self._grams.offsets)
        self._needed = np.ceil(containment * sizes - 1e-9).astype(np.int64)
        self._seeds = []
        for (least, characters), after in zip(_SEEDS, (*_SEEDS[1:], (None, 0)), strict=True):
            chosen = (sizes >= max(least, min_grams)) & (after[0] is None or sizes < after[0])
            numbers = np.flatnonzero(chosen)
            if len(numbers):
                own = [texts[i] for i in numbers.tolist()]
                shared = self._num_seeds(numbers, characters)
                self._seeds.append(_Seeds.of(own, numbers, characters, shared))

    def find(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """(position in ``texts``, which of the E), one for each training text that holds any."""
        num_texts = len(self._needed)
        parts = [seeds.candidates(texts, num_texts) for seeds in self._seeds]
        codes = np.concatenate([np.zeros(0, np.int64), *parts])
        suspects, which = np.unique(codes // max(1, num_texts), return_inverse=True)
        candidates = codes % max(1, num_texts)
        shingles = shingle(
            [texts[i] for i in suspects.tolist()], unit="characters", size=CHARACTERS
        )
        likely = self._grams.shared_at_most(candidates, which, shingles) >= self._needed[candidates]
        found: dict[int, int] = {}
        for place, candidate in zip(
            which[likely].tolist(), candidates[likely].tolist(), strict=True
        ):
            if place not in found and self._stand_close(candidate, shingles, place):
                found[place] = candidate
        return [(int(suspects[place]), candidate) for place, candidate in found.items()]

    def _num_seeds(self, numbers: NDArray[np.int64], characters: int) -> NDArray[np.int64]:
        """How many seeds both texts share at least."""
        needed = self._needed[numbers]
        missing = np.diff(self._grams.offsets)[numbers] - needed
        lost_in_each_run = characters - CHARACTERS
        return np.maximum(1, needed - lost_in_each_run * (missing // 3 + 1))

    def _stand_close(self, candidate: int, shingles: Shingles, text: int) -> bool:
        """Whether enough of the grams that stand in the text do so within a short stretch."""
        own, needed = self._grams.of_text(candidate), int(self._needed[candidate])
        grams = shingles.hashes[shingles.offsets[text] : shingles.offsets[text + 1]]
        which = np.minimum(np.searchsorted(own, grams), len(own) - 1)
        places = np.flatnonzero(own[which] == grams)
        return most_within(places.tolist(), which[places].tolist(), 2 * len(own)) >= needed


@dataclass(frozen=True, eq=False)
class _Sets:
    """The distinct grams of each of E texts, sorted."""

    grams: NDArray[np.uint64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, shingles: Shingles) -> _Sets:
        owners, grams = _distinct(shingles)
        return cls(grams, offsets_of(np.bincount(owners, minlength=len(shingles))))

    def of_text(self, text: int) -> NDArray[np.uint64]:
        return self.grams[self.offsets[text] : self.offsets[text + 1]]

    def shared_at_most(
        self, sets: NDArray[np.int64], texts: NDArray[np.int64], shingles: Shingles
    ) -> NDArray[np.int64]:
        """How many grams of each of K sets stand in the text beside it, or a few more, (K,)."""
        owners = np.repeat(np.arange(len(shingles)), np.diff(shingles.offsets))
        there = Lookup(_keys(owners, shingles.hashes))
        counts = np.diff(self.offsets)[sets]
        asked = self.grams[_ranges(self.offsets[sets], counts)]
        hit = there.may_hold(_keys(np.repeat(texts, counts), asked))
        return np.add.reduceat(np.append(hit, False), offsets_of(counts)[:-1], dtype=np.int64)


def _distinct(shingles: Shingles) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Each text and each of its distinct shingles, by text and then by shingle."""
    owners = np.repeat(np.arange(len(shingles)), np.diff(shingles.offsets))
    order = np.lexsort((shingles.hashes, owners))
    owners, hashes = owners[order], shingles.hashes[order]
    fresh = np.ones(len(owners), np.bool_)
    fresh[1:] = (owners[1:] != owners[:-1]) | (hashes[1:] != hashes[:-1])
    return owners[fresh], hashes[fresh]


def _keys(owners: NDArray[np.int64], grams: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return mix(mix(owners.astype(np.uint64)) ^ grams)


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """starts[0], starts[0] + 1, ... (counts[0] of them), starts[1], ..."""
    before = np.repeat(offsets_of(counts)[:-1], counts)
    return np.repeat(starts, counts) + np.arange(len(before)) - before


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
        hits: how many indexed seeds an evaluation text must share, by its number.
    """

    characters: int
    lookup: Lookup
    postings: NDArray[np.int64]
    offsets: NDArray[np.int64]
    hits: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        numbers: NDArray[np.int64],
        characters: int,
        shared: NDArray[np.int64],
    ) -> _Seeds:
        """Index so many of each text's rarest seeds that ``hits`` of any ``shared`` are indexed."""
        owners, seeds = _distinct(shingle(texts, unit="characters", size=characters))
        _, inverse, counts = np.unique(seeds, return_inverse=True, return_counts=True)
        order = np.lexsort((seeds, counts[inverse], owners))
        owners, seeds = owners[order], seeds[order]
        sizes = np.bincount(owners, minlength=len(texts))
        hits = np.minimum(shared, _HITS)
        rank = np.arange(len(owners)) - offsets_of(sizes)[owners]
        kept = rank < np.maximum(1, sizes - shared + hits)[owners]
        by_seed = np.argsort(seeds[kept], kind="stable")
        indexed, lengths = np.unique(seeds[kept], return_counts=True)
        hits_of = np.ones(int(numbers.max()) + 1, np.int64)
        hits_of[numbers] = np.minimum(hits, sizes)
        return cls(
            characters,
            Lookup(indexed),
            numbers[owners[kept]][by_seed],
            offsets_of(lengths),
            hits_of,
        )

    def candidates(self, texts: Sequence[str], num_texts: int) -> NDArray[np.int64]:
        """Codes ``text * num_texts + evaluation text`` of those that share enough seeds."""
        shingles = shingle(texts, unit="characters", size=self.characters)
        places, seeds = self.lookup.find(shingles.hashes)
        text = np.searchsorted(shingles.offsets, places, side="right") - 1
        counts = np.diff(self.offsets)[seeds]
        found = self.postings[_ranges(self.offsets[seeds], counts)]
        codes, times = np.unique(np.repeat(text, counts) * num_texts + found, return_counts=True)
        return codes[times >= self.hits[codes % num_texts]]


class Lookup:
    """Finds which of many hashes are among some wanted ones, most by one look at a table.

    Args:
        wanted: sorted, where ``find`` is to be called.
    """

    def __init__(self, wanted: NDArray[np.uint64]) -> None:
        self._wanted = wanted
        self._bits = min(max(10, len(wanted).bit_length() + 4), 26)  # one slot in 16 is taken
        self._maybe = np.zeros(1 << self._bits, np.bool_)
        self._maybe[self._slots(wanted)] = True

    def may_hold(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """False for hashes that are surely not wanted; true for one in 16 of these too."""
        return self._maybe[self._slots(hashes)]

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions in ``hashes`` of those that are wanted, and which of the wanted they are."""
        places = np.flatnonzero(self.may_hold(hashes))
        if not len(self._wanted):
            return places[:0], places[:0]
        which = np.minimum(np.searchsorted(self._wanted, hashes[places]), len(self._wanted) - 1)
        hit = self._wanted[which] == hashes[places]
        return places[hit], which[hit]

    def _slots(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes >> np.uint64(64 - self._bits)).astype(np.int64)
