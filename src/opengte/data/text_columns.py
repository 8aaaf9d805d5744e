"""Arrow columns of text -> one number a text: a 64-bit hash, an estimate of its tokens.

Both work on the bytes of the column at once, at about a nanosecond a byte, so that a store can
keep them beside the texts and a mixture can compare texts without touching them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opengte.data.shingles import mix, power_table

_BLOCK_BYTES = 1 << 20
_Number = TypeVar("_Number", np.uint64, np.int32)
_SPACE, _WORD, _MARK, _IDEOGRAPH, _REST = range(5)


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """One 64-bit hash a text, (N,), the same on every machine and in every version.

    Texts that differ in nothing but ASCII case and surrounding space hash equally: for
    contrastive training they are one text.
    """
    plain = pc.ascii_lower(pc.utf8_trim_whitespace(texts))
    parts = [np.zeros(0, np.uint64)]
    for data, starts in _blocks(plain):
        powers, inverse = power_table(len(data))
        values = np.add(data, 1, dtype=np.uint64)
        values *= powers[: len(data)]
        sums = _sum_by_text(values, starts)
        lengths = np.diff(starts).astype(np.uint64)
        parts.append(mix(mix(sums * inverse[starts[:-1]]) ^ lengths))
    return np.concatenate(parts)


def estimate_tokens(texts: pa.Array) -> NDArray[np.int32]:
    """About how many tokens each text has, (N,): its words, marks and ideographs.

    That is how BERT's tokenizers cut a text before they cut words into pieces; the pieces
    themselves are not counted, for they depend on the vocabulary.
    """
    parts = [np.zeros(0, np.int32)]
    for data, starts in _blocks(texts):
        classes = _BYTE_CLASSES[data]
        begins = (classes == _MARK) | (classes == _IDEOGRAPH)
        before, ideograph_before = _shifted(classes, 1), _shifted(classes, 3) == _IDEOGRAPH
        first = starts[:-1][starts[:-1] < len(classes)]
        before[first], ideograph_before[first] = _SPACE, False
        goes_on = (before == _WORD) | ((before == _REST) & ~ideograph_before)
        begins |= (classes == _WORD) & ~goes_on
        parts.append(_sum_by_text(begins.astype(np.int32), starts))
    return np.concatenate(parts)


def _shifted(values: NDArray[np.uint8], places: int) -> NDArray[np.uint8]:
    """The value so many places before, 0 where there is none."""
    shifted = np.zeros_like(values)
    shifted[places:] = values[: max(0, len(values) - places)]
    return shifted


def _byte_classes() -> NDArray[np.uint8]:
    """What a byte of UTF-8 begins."""
    classes = np.full(256, _WORD, np.uint8)
    for byte in range(128):
        if chr(byte).isspace() or byte < 32:
            classes[byte] = _SPACE
        elif not chr(byte).isalnum():
            classes[byte] = _MARK
    classes[0x80:0xC0] = _REST
    # Lead bytes of U+2000..U+2FFF (marks), U+3000..U+9FFF (ideographs), U+F000..U+FFFF (wide
    # marks) and of the planes above the first: most of these characters are tokens of their own.
    classes[[0xE2, *range(0xE3, 0xEA), 0xEF, *range(0xF0, 0xF8)]] = _IDEOGRAPH
    return classes


_BYTE_CLASSES = _byte_classes()


def _blocks(texts: pa.Array) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Bytes of some texts in a row and where each starts, the end included."""
    texts = texts.cast(pa.large_string())
    _, offset_buffer, data_buffer = texts.buffers()
    if not len(texts):
        return
    offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    first = 0
    while first < len(texts):
        limit = offsets[first] + _BLOCK_BYTES
        last = max(first + 1, int(np.searchsorted(offsets, limit, side="right")) - 1)
        starts = offsets[first : last + 1]
        yield data[starts[0] : starts[-1]], starts - starts[0]
        first = last


def _sum_by_text(values: NDArray[_Number], starts: NDArray[np.int64]) -> NDArray[_Number]:
    """Sum of the values of each text; 0 for an empty one."""
    filled = starts[1:] > starts[:-1]
    sums = np.zeros(len(filled), values.dtype)
    if filled.any():
        sums[filled] = np.add.reduceat(values, starts[:-1][filled])
    return sums
