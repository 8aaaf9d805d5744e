"""Word lists that read as prose: a text in, the set of its words out."""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """The words of ``text``, for membership tests."""
    return frozenset(text.split())
