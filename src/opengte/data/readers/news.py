"""News rows to (summary, content) or (highlight, body), and (headline, body)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opengte.data.readers.bad_rows import NoPairError
from opengte.data.readers.row_values import Row, text_of
from opengte.records import Pair


def news_pairs(summary: str, body: str, kind: str) -> Callable[[Row, str], Sequence[Pair]]:
    """Rows with a summary (a text, or a list of points) and a body, perhaps with a headline."""

    def to_pairs(row: Row, origin: str) -> Sequence[Pair]:
        content = _joined(row.get(body), "\n\n") or text_of(row, body)
        short = _joined(row.get(summary), " ") or text_of(row, summary)
        pairs = [Pair(short, content, kind=kind, origin=origin)]
        for field in ("title", "headline"):
            headline = row.get(field)
            if field != summary and isinstance(headline, str) and headline.strip():
                pairs.append(Pair(headline.strip(), content, kind="title-body", origin=origin))
        if short == content:
            raise NoPairError("summary equals body", f"fields {summary!r} and {body!r} are equal")
        return pairs

    return to_pairs


def _joined(value: Any, glue: str) -> str:
    if isinstance(value, list):
        return glue.join(part.strip() for part in value if isinstance(part, str) and part.strip())
    return ""
