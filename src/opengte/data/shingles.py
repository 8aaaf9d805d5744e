"""Texts -> hashed shingles: overlapping runs of words or characters, as flat arrays.

What near-duplicate search, decontamination and the repetition filter have in common. Text is
compared after NFKC and lower-casing; punctuation and space only separate. Axes: N texts,
I items (words or characters) of all texts in a row, S shingles of all texts in a row.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError

Unit = Literal["words", "characters"]

# Scripts written without spaces, where every character counts as a word of its own.
_UNSPACED = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SEPARATOR, _LETTER, _IDEOGRAPH = 0, 1, 2
# Odd, so that it has no factor in common with 2**64; the digits are those of the golden ratio.
_BASE = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Shingles:
    """The shingles of N texts: those of text i are ``hashes[offsets[i]:offsets[i + 1]]``.

    Attributes:
        hashes: uint64, (S,), in the order of the text, repeats included.
        offsets: int64, (N + 1,).
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, text: int) -> NDArray[np.uint64]:
        """The distinct shingles of one text, sorted."""
        return np.unique(self.hashes[self.offsets[text] : self.offsets[text + 1]])


def normalise_text(text: str) -> str:
    """What a text is compared by: see ``normalise_texts``."""
    return normalise_texts([text])[0]


def normalise_texts(texts: Sequence[str]) -> list[str]:
    """What texts are compared by: NFKC, lower case, words parted by one space.

    Punctuation is gone. Characters of scripts without spaces stand without spaces between.
    """
    normal: list[str] = []
    for block in _blocks(texts):
        codes, offsets = _spaced_characters(*_classify(texts[block]))
        whole = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        normal += [whole[i:j] for i, j in itertools.pairwise(offsets.tolist())]
    return normal


def count_words(texts: Sequence[str]) -> NDArray[np.int64]:
    """Words in each text, (N,); a Chinese or Japanese character counts as one word."""
    counts = [np.zeros(0, np.int64)]
    for block in _blocks(texts):
        codes, classes, starts = _classify(texts[block])
        before = np.zeros(len(codes) + 1, np.int64)
        np.cumsum(_word_begins(classes, starts), out=before[1:])
        counts.append(np.diff(before[starts]))
    return np.concatenate(counts)


def shingle(texts: Sequence[str], *, unit: Unit = "words", size: int = 3) -> Shingles:
    """Hash every run of ``size`` items of every text.

    Args:
        texts: N texts.
        unit: ``words`` (letters and digits between anything else; a character of a script
            without spaces is a word) or ``characters`` (of words parted by one space).
        size: items in a shingle. A text of fewer items is one shingle as a whole.

    Returns:
        64-bit hashes; equal runs hash equally on every machine and in every version.
    """
    if size < 1:
        raise ConfigError(f"size of a shingle must be >= 1, got {size}")
    parts = [_shingle_block(texts[block], unit, size) for block in _blocks(texts)]
    if not parts:
        return Shingles(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    return Shingles(np.concatenate([part.hashes for part in parts]), offsets_of(counts))


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of N runs begins, and where the last ends: (N + 1,)."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread 64-bit values over all 64 bits, one to one (the finaliser of splitmix64)."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values = values ^ (values >> np.uint64(27))
    values = values * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _blocks(texts: Sequence[str], *, max_characters: int = 1 << 20) -> list[slice]:
    """Slices of at most so many characters, so that scratch arrays stay small."""
    blocks, begin, size = [], 0, 0
    for i, text in enumerate(texts):
        if size and size + len(text) > max_characters:
            blocks.append(slice(begin, i))
            begin, size = i, 0
        size += len(text)
    if begin < len(texts):
        blocks.append(slice(begin, len(texts)))
    return blocks


def _shingle_block(texts: Sequence[str], unit: Unit, size: int) -> Shingles:
    codes, classes, starts = _classify(texts)
    if unit == "words":
        items, offsets = _word_hashes(codes, classes, starts)
    else:
        characters, offsets = _spaced_characters(codes, classes, starts)
        items = characters.astype(np.uint64)
    return _windows(items, offsets, size)


def _classify(
    texts: Sequence[str],
) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.int64]]:
    """Code points of all texts in a row, their classes, and where each text starts."""
    plain = [
        (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower() for text in texts
    ]
    lengths = np.fromiter(map(len, plain), np.int64, len(plain))
    buffer = "".join(plain).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(buffer, "<u4").astype(np.uint32, copy=False)
    return codes, _class_table(codes)[codes], offsets_of(lengths)


def _class_table(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Class by code point, filled for the code points that occur."""
    size = int(codes.max()) + 1 if len(codes) else 1
    seen = np.zeros(size, np.bool_)
    seen[codes] = True
    table = np.zeros(size, np.uint8)
    for code in np.flatnonzero(seen).tolist():
        table[code] = _class_of(code)
    return table


@cache
def _class_of(code: int) -> int:
    character = chr(code)
    if _UNSPACED.match(character):
        return _IDEOGRAPH if character.isalnum() else _SEPARATOR
    return _LETTER if unicodedata.category(character)[0] in "LNM" else _SEPARATOR


def _word_begins(classes: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where a word begins: a letter after none, or any ideograph."""
    before = np.zeros(len(classes) + 1, np.uint8)
    before[1:] = classes
    before[starts] = _SEPARATOR  # nothing of the text before reaches into this one
    begins: NDArray[np.bool_] = (classes == _IDEOGRAPH) | (
        (classes == _LETTER) & (before[:-1] != _LETTER)
    )
    return begins


def _spaced_characters(
    codes: NDArray[np.uint32], classes: NDArray[np.uint8], starts: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The characters of words, with one space between words of letters, and each text's start."""
    keep = classes != _SEPARATOR
    begins = _word_begins(classes, starts)[keep]
    letters = classes[keep] == _LETTER
    offsets = _counts_before(keep)[starts]
    # A space goes before a word of letters that follows letters of the same text.
    space = np.zeros(len(letters), np.bool_)
    space[1:] = begins[1:] & letters[1:] & letters[:-1]
    space[offsets[:-1][offsets[:-1] < len(space)]] = False
    shift = _counts_before(space)
    spread = np.full(len(space) + int(shift[-1]), 32, np.uint32)
    spread[np.arange(len(space), dtype=np.int32) + shift[1:]] = codes[keep]
    return spread, (offsets + shift[offsets]).astype(np.int64)


def _counts_before(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many are true before each place, and in all: (len + 1,)."""
    counts = np.zeros(len(mask) + 1, np.int32)
    np.cumsum(mask, out=counts[1:])
    return counts


def _word_hashes(
    codes: NDArray[np.uint32], classes: NDArray[np.uint8], starts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """One hash a word, and where each text's words start."""
    begins = _word_begins(classes, starts)
    inside = classes != _SEPARATOR
    offsets = _counts_before(begins)[starts].astype(np.int64)
    first = np.flatnonzero(begins[inside])
    if not len(first):
        return np.zeros(0, np.uint64), offsets
    values = codes[inside].astype(np.uint64)
    powers, inverse = power_table(len(values))
    values += np.uint64(1)
    values *= powers[: len(values)]
    return mix(np.add.reduceat(values, first) * inverse[first]), offsets


def power_table(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """At least ``size`` powers of an odd base, and their inverses, modulo 2**64."""
    return _power_table(1 << max(20, size.bit_length()))


@cache
def _power_table(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return _powers(size, _BASE), _powers(size, pow(_BASE, -1, 1 << 64))


def _powers(count: int, base: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _windows(items: NDArray[np.uint64], offsets: NDArray[np.int64], size: int) -> Shingles:
    """Hash all windows of ``size`` items that lie inside one text.

    A window beyond the end of a text shorter than ``size`` is filled up with nothing.
    """
    counts = np.diff(offsets)
    values = items + np.uint64(1)
    powers = _powers(size, _BASE)
    hashes = values.copy()
    for place in range(1, min(size, len(values))):
        hashes[:-place] += values[place:] * powers[place]
    whole = np.ones(len(items), np.bool_)  # windows that do not reach into the next text
    for place in range(1, size):
        late = offsets[1:] - place
        whole[late[late >= offsets[:-1]]] = False
    short = np.flatnonzero((counts > 0) & (counts < size))
    begin = offsets[short]
    hashes[begin] = 0
    for place in range(size - 1):
        there = counts[short] > place
        hashes[begin[there]] += values[begin[there] + place] * powers[place]
    whole[begin] = True
    num_windows = np.where(counts >= size, counts - size + 1, np.minimum(counts, 1))
    return Shingles(mix(hashes[whole]), offsets_of(num_windows))
