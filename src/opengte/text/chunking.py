"""A long text -> overlapping pieces that each fit a model, cut where a reader would pause."""

from __future__ import annotations

import re
from dataclasses import dataclass

from opengte.errors import ConfigError
from opengte.text.tokenizer import Tokenizer

PAUSES = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?。！？]\s*"),
    re.compile(r"\s"),
)
"""From the strongest to the weakest: paragraph, line, sentence, word."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text: ``text[start:end]``, positions in characters."""

    text: str
    start: int
    end: int


def chunk_text(
    text: str, tokenizer: Tokenizer, *, max_tokens: int, overlap_tokens: int = 0
) -> list[Chunk]:
    """Cut ``text`` into pieces of at most ``max_tokens`` tokens, special tokens included.

    Each cut is moved back to the strongest pause (paragraph, line, sentence, word) in the second
    half of the window. Neighbours share about ``overlap_tokens`` tokens. Together the pieces hold
    every character but white space at the borders; a text that fits gives one piece.

    Raises:
        ConfigError: ``overlap_tokens`` is not smaller than half of the room for text.
    """
    room = max_tokens - tokenizer.num_special_tokens
    if room < 1 or not 0 <= overlap_tokens <= room // 2:
        raise ConfigError(
            f"overlap_tokens must be between 0 and half of the {max(room, 0)} tokens of room, "
            f"got {overlap_tokens} with max_tokens {max_tokens}"
        )
    spans = tokenizer.spans(text)
    chunks: list[Chunk] = []
    first = 0
    while first < len(spans):
        last = min(first + room, len(spans))
        start = spans[first][0]
        if last < len(spans):
            middle = spans[first + (last - first) // 2][1]
            cut = _pause(text, middle, spans[last][0])
            last = max(first + 1, _tokens_before(spans, cut, first, last))
        end = spans[last - 1][1]
        chunks.append(_stripped(text, start, end))
        if last >= len(spans):
            break
        first = max(first + 1, _word_start(text, spans, last - overlap_tokens, last))
    return [chunk for chunk in chunks if chunk.text]


def _pause(text: str, low: int, high: int) -> int:
    """The position after the last of the strongest pauses in ``text[low:high]``."""
    for pattern in PAUSES:
        ends = [match.end() for match in pattern.finditer(text, low, high)]
        if ends:
            return ends[-1]
    return high


def _tokens_before(spans: list[tuple[int, int]], position: int, first: int, last: int) -> int:
    while last > first and spans[last - 1][1] > position:
        last -= 1
    return last


def _word_start(text: str, spans: list[tuple[int, int]], first: int, last: int) -> int:
    """The first token in ``[first, last)`` that begins a word: no word is shared in part."""
    for i in range(first, last):
        start = spans[i][0]
        if start == 0 or text[start - 1].isspace() or text[start].isspace():
            return i
    return last


def _stripped(text: str, start: int, end: int) -> Chunk:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    piece = piece.strip()
    return Chunk(piece, start, start + len(piece))
