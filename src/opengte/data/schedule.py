"""Shares -> who is drawn at step t, and for how many a time: arithmetic, no replay.

Time is cut into blocks of about ``BLOCK`` draws. Before block b, entry i has been drawn
``floor(p_i * BLOCK * b + phase_i)`` times, with a phase from the key: a number that never strays
by a whole draw from its due, however small p_i is. Inside a block each entry's draws are spread
evenly, each jittered by the key, so that any stretch of steps holds the shares too.
Axes: S entries, K draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from opengte.data.shingles import mix
from opengte.errors import ConfigError

BLOCK = 1024
_FRACTION_BITS = 20  # p_i is kept to 2**-30; draws may go up to 2**43
_MASK = 0xFFFFFFFFFFFFFFFF


class Schedule(Protocol):
    """Gives the entry of every draw, and how many draws of that entry came before."""

    def draws(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Entries and their occurrence numbers for the draws in [start, stop)."""
        ...


class SharedSchedule:
    """Draws every entry in its share, evenly spread, in an order that the key decides.

    Args:
        shares: p_i >= 0, (S,); they are divided by their sum.
        key: decides phases and order.
    """

    def __init__(self, shares: Sequence[float] | NDArray[np.float64], key: int) -> None:
        given = np.asarray(shares, np.float64)
        if not len(given) or not np.isfinite(given).all() or (given < 0).any() or not given.any():
            raise ConfigError(f"shares must be finite, >= 0 and not all 0, got {given.tolist()}")
        self.shares = given / given.sum()
        self._key = np.array([key & _MASK], np.uint64)
        self._block = max(BLOCK, 8 * len(given))
        rate = np.rint(self.shares * self._block * (1 << _FRACTION_BITS)).astype(np.int64)
        self._rate = np.maximum(rate, given > 0)
        phases = mix(self._key ^ mix(np.arange(len(given), dtype=np.uint64)))
        self._phase = (phases >> np.uint64(64 - _FRACTION_BITS)).astype(np.int64)
        self._cached: dict[int, tuple[int, NDArray[np.int64], NDArray[np.int64]]] = {}

    def draws(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Entries and their occurrence numbers for the draws in [start, stop)."""
        entries, occurrences = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        block = self._block_of(start)
        while start < stop:
            first, block_entries, block_occurrences = self._ordered(block)
            part = slice(start - first, min(stop - first, len(block_entries)))
            entries.append(block_entries[part])
            occurrences.append(block_occurrences[part])
            start = first + len(block_entries)
            block += 1
        return np.concatenate(entries), np.concatenate(occurrences)

    def _before(self, block: int) -> NDArray[np.int64]:
        """Draws of each entry before ``block``."""
        return (self._rate * block + self._phase) >> _FRACTION_BITS

    def _block_of(self, draw: int) -> int:
        """The block that holds ``draw``. Blocks differ by a few draws, so look around."""
        block = max(0, (draw << _FRACTION_BITS) // int(self._rate.sum()) - 1)
        while int(self._before(block).sum()) > draw:
            block -= 1
        while int(self._before(block + 1).sum()) <= draw:
            block += 1
        return block

    def _ordered(self, block: int) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Number of the block's first draw, its entries in order, their occurrences."""
        if block not in self._cached:
            before = self._before(block)
            counts = self._before(block + 1) - before
            entries = np.repeat(np.arange(len(counts)), counts)
            nth = np.arange(len(entries)) - np.repeat(np.cumsum(counts) - counts, counts)
            label = mix(mix(self._key + np.uint64(block)) ^ mix(entries.astype(np.uint64)))
            jitter = mix(label ^ nth.astype(np.uint64)).astype(np.float64) / 2.0**64
            order = np.argsort((nth + jitter) / counts[entries], kind="stable")
            while len(self._cached) >= 64:
                del self._cached[next(iter(self._cached))]
            occurrences = (before[entries] + nth)[order]
            self._cached[block] = int(before.sum()), entries[order], occurrences
        return self._cached[block]


class OrderedSchedule:
    """Draws all of one entry, then all of the next; after ``num_draws`` it begins again.

    Args:
        shares: p_i >= 0, (S,), in the order of the visits.
        num_draws: draws of one round, in which entry i has round(p_i * num_draws) of them,
            give or take one.
    """

    def __init__(self, shares: Sequence[float] | NDArray[np.float64], num_draws: int) -> None:
        given = np.asarray(shares, np.float64)
        if num_draws < len(given):
            raise ConfigError(
                f"an ordered mixture of {len(given)} groups needs num_steps >= {len(given)}, "
                f"got {num_draws}"
            )
        self.shares = given / given.sum()
        ends = np.rint(np.cumsum(self.shares) * num_draws).astype(np.int64)
        self._starts = np.concatenate([[0], ends])

    def draws(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Entries and their occurrence numbers for the draws in [start, stop)."""
        turn, within = np.divmod(np.arange(start, stop), self._starts[-1])
        entry = np.searchsorted(self._starts, within, side="right") - 1
        length = np.diff(self._starts)[entry]
        return entry, turn * length + within - self._starts[entry]
