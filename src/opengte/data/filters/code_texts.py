"""Tells code from prose by its marks: a text in, yes or no out."""

from __future__ import annotations

import re

_MARKS = re.compile(r"[{}()\[\];=<>|&+*/\\_]|->|::|:=")
_LINE = re.compile(
    r"^\s*(def |class |return\b|import |from \w+ import|public |private |func |fn |let |var |"
    r"const |if\s*\(|for\s*\(|while\s*\(|#include|SELECT\b|@\w+|\w+\s*=\s*\S)",
    re.MULTILINE,
)


def looks_like_code(text: str) -> bool:
    """Whether a text is code rather than prose: one mark in twelve characters, or its idioms."""
    if len(text) < 20:
        return False
    head = text[:4000]
    marks = len(_MARKS.findall(head))
    if marks * 12 >= len(head):
        return True
    return marks * 40 >= len(head) and len(_LINE.findall(head)) >= 2
