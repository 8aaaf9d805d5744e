"""(key, n) -> a bijection of [0, n), evaluated at any positions without being written out.

A Feistel network over Z_a x Z_b with a * b >= n (Black and Rogaway 2002, "Ciphers with arbitrary
finite domains", the generalised Feistel cipher), and cycle walking for the few values that fall
outside. So the row at position 3,217,558,211 of epoch 7 costs what the first one costs.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from opengte.data.shingles import mix
from opengte.errors import ConfigError

_ROUNDS = 8
_MAX_ROWS = 1 << 62


def key_of(*parts: int | str) -> int:
    """A 64-bit key that depends on every part and on their order."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class KeyedPermutation:
    """A fixed shuffle of ``range(n)``.

    Args:
        n: number of values, 1 or more.
        key: any integer; another key is another shuffle.
    """

    def __init__(self, n: int, key: int) -> None:
        if not 1 <= n <= _MAX_ROWS:
            raise ConfigError(f"a shuffle needs between 1 and 2**62 values, got {n}")
        self.n = n
        self._a = math.isqrt(n - 1) + 1
        self._b = -(-n // self._a)
        rounds = np.arange(_ROUNDS, dtype=np.uint64)
        self._keys = mix(mix(rounds + np.uint64(1)) ^ np.uint64(key & 0xFFFFFFFFFFFFFFFF))

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The values at ``positions``, each in [0, n)."""
        values = self._encipher(positions.astype(np.uint64))
        outside = np.flatnonzero(values >= self.n)
        while len(outside):  # a * b exceeds n by less than a: hardly ever more than one turn
            values[outside] = self._encipher(values[outside])
            outside = outside[values[outside] >= self.n]
        return values.astype(np.int64)

    def _encipher(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = np.divmod(values, np.uint64(self._b))
        sizes = (np.uint64(self._a), np.uint64(self._b))
        for turn in range(0, _ROUNDS, 2):
            left = _add(left, self._round(right, turn, sizes[0]), sizes[0])
            right = _add(right, self._round(left, turn + 1, sizes[1]), sizes[1])
        return left * sizes[1] + right

    def _round(self, half: NDArray[np.uint64], turn: int, size: np.uint64) -> NDArray[np.uint64]:
        """A keyed function of one half, in [0, size)."""
        # The high 32 bits scaled to the size: as even as a remainder, and much faster.
        return ((mix(half ^ self._keys[turn]) >> np.uint64(32)) * size) >> np.uint64(32)


def _add(
    values: NDArray[np.uint64], more: NDArray[np.uint64], size: np.uint64
) -> NDArray[np.uint64]:
    """The sum modulo ``size`` of values below it."""
    total = values + more
    return total - size * (total >= size)
