"""Texts -> keys that are equal for equal texts, and shingles that overlap for near-equal ones.

Rules compare texts, never ids: pair files carry no ids, and one text often stands in a corpus
under several.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

# Scripts written without spaces: every character is a word of its own.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_IS_CJK = re.compile(f"[{_CJK}]")
SHINGLE_WORDS = 3


def text_key(text: str) -> int:
    """63 bits that are equal for texts differing only in case, white space or Unicode form.

    Punctuation counts: ``i += 1`` and ``i -= 1`` are different texts.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    digest = hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def words(text: str) -> tuple[str, ...]:
    """The words of ``text``, case folded; a CJK character is a word, ``_`` parts two words."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def shingles(text_words: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """All runs of three words; of a shorter text, the text itself; of none, nothing."""
    if len(text_words) <= SHINGLE_WORDS:
        return frozenset([text_words]) if text_words else frozenset()
    starts = range(len(text_words) - SHINGLE_WORDS + 1)
    return frozenset(text_words[i : i + SHINGLE_WORDS] for i in starts)


def jaccard(left: frozenset[tuple[str, ...]], right: frozenset[tuple[str, ...]]) -> float:
    """Shared shingles over all shingles, in [0, 1]; 0 where both are empty."""
    if not left or not right:
        return 0.0
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def contains_run(text_words: tuple[str, ...], run: tuple[str, ...]) -> bool:
    """Whether ``run`` stands in ``text_words`` unbroken (DPR's test for an answer)."""
    if not run or len(run) > len(text_words):
        return False
    # "\0" never survives `words`, so no match can begin or end inside a word.
    return f"\0{chr(0).join(run)}\0" in f"\0{chr(0).join(text_words)}\0"


def longest_shared_run(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    """The longest run of words that stands in both texts; the first one of that length."""
    joined = f"\0{chr(0).join(right)}\0"
    longest: tuple[str, ...] = ()
    for start in range(len(left)):
        # From here only a longer run than the best so far is of interest.
        while start + len(longest) < len(left):
            run = left[start : start + len(longest) + 1]
            if f"\0{chr(0).join(run)}\0" not in joined:
                break
            longest = run
    return longest


def weigh_words(text_words: tuple[str, ...]) -> float:
    """How many words of an alphabetic script these stand for: a CJK character is half a word."""
    return sum(0.5 if _IS_CJK.match(word) else 1.0 for word in text_words)


def fingerprint_texts(texts: Iterable[str], *, begin: bytes = b"") -> str:
    """SHA-256 over ``begin`` and texts in their order; lengths are hashed, so borders count."""
    digest = hashlib.sha256(begin)
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
