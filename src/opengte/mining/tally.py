"""Candidates that met one fate (kept, or refused by a rule) -> a count and a fair sample.

The sample holds the entries with the smallest keyed hashes, so that it is the same whatever
the order or the split of the work: tallies of blocks merge to the tally of the whole, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opengte.mining.examples import score_quantiles

SAMPLE_SIZE = 1024

ENTRY = np.dtype(
    [
        ("priority", "<u8"),
        ("pair", "<i8"),
        ("row", "<i8"),
        ("rank", "<i4"),
        ("score", "<f4"),
        ("positive_score", "<f4"),
    ]
)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many candidates met one fate, and up to 1,024 of them drawn evenly.

    Attributes:
        count: all of them.
        sample: entries of dtype ``ENTRY``, by rising priority.
    """

    count: int
    sample: NDArray[np.void]

    @classmethod
    def empty(cls) -> Tally:
        """Nothing counted yet."""
        return cls(0, np.empty(0, dtype=ENTRY))

    @classmethod
    def of(
        cls,
        pair: int,
        rows: NDArray[np.int64],
        ranks: NDArray[np.int64],
        scores: NDArray[np.float32],
        positive_score: float,
    ) -> Tally:
        """The candidates of one pair."""
        entries = np.empty(len(rows), dtype=ENTRY)
        entries["priority"] = _hash(pair, rows)
        entries["pair"] = pair
        entries["row"] = rows
        entries["rank"] = ranks
        entries["score"] = scores
        entries["positive_score"] = positive_score
        return cls(len(rows), _smallest(entries))

    @classmethod
    def merge(cls, tallies: list[Tally]) -> Tally:
        """The tally of everything that ``tallies`` counted."""
        if not tallies:
            return cls.empty()
        sample = _smallest(np.concatenate([tally.sample for tally in tallies]))
        return cls(sum(tally.count for tally in tallies), sample)

    def quantiles(self) -> dict[str, float]:
        """Score quantiles of the sample; empty where nothing was counted."""
        return score_quantiles(self.sample["score"])


def _hash(pair: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """splitmix64 of (pair, row)."""
    mask = (1 << 64) - 1
    start = np.uint64((pair * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & mask)
    x = rows.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + start
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _smallest(entries: NDArray[np.void]) -> NDArray[np.void]:
    order = np.lexsort((entries["row"], entries["pair"], entries["priority"]))
    return entries[order[:SAMPLE_SIZE]]
