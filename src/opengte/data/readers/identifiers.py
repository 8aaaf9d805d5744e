"""Identifiers as words: ``HTTPServer_error2`` in, ``HTTP Server error 2`` out."""

from __future__ import annotations

import re

_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\dA-Z_]+|[A-Z]+|\d+")


def words_of(identifier: str) -> str:
    """Split at underscores, dots and camelCase humps; case is kept."""
    return " ".join(_PARTS.findall(identifier))
