"""Reddit-style rows (submissions and comments, one JSON object a line) to their pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.json_rows import read_json_rows
from opengte.errors import DataError
from opengte.records import Pair

MIN_CHARACTERS = 20
_GONE = frozenset({"[deleted]", "[removed]"})


def read_reddit(path: Path, bad_rows: BadRows, *, min_score: int = 1) -> Iterator[Pair]:
    """Yield (title, body) of submissions and (post or comment, comment that answers it).

    A comment is paired with its parent if that was read before it: submissions (``t3_``) are
    kept by title, comments (``t1_``) by text. Of a folder, files named ``RS_*`` are read first.

    Args:
        path: one file, or a folder of ``RS_*`` and ``RC_*`` files.
        bad_rows: what to do with rows that cannot be used.
        min_score: rows with fewer votes are left out, counted.
    """
    files = sorted(path.glob("R[SC]_*"), key=lambda file: (file.name[1] != "S", file.name))
    if path.is_dir() and not files:
        raise DataError("no RS_* or RC_* files in this folder", path=path)
    texts: dict[str, str] = {}
    for file in files if path.is_dir() else [path]:
        for number, row in read_json_rows(file, bad_rows):
            identity, text, pair = _post(row) if "title" in row else _comment(row, texts)
            reason = _refusal(row, pair, min_score)
            if text and identity:
                texts[identity] = text
            if reason is not None or pair is None:
                bad_rows.report.skip(reason or "comment without its post", path=file, line=number)
                continue
            query, answer, kind = pair
            group = row.get("subreddit")
            yield Pair(
                query,
                answer,
                group=group if isinstance(group, str) else "",
                kind=kind,
                origin=f"{file.name}:{number}",
            )


Found = tuple[str, str, tuple[str, str, str] | None]
"""(id with its type, text that answers may be paired with, (query, positive, kind) or None)."""


def _post(row: dict[str, Any]) -> Found:
    title, body = _text(row, "title"), _text(row, "selftext")
    pair = (title, body, "title-body") if title and body else None
    return f"t3_{row.get('id')}", title, pair


def _comment(row: dict[str, Any], texts: dict[str, str]) -> Found:
    body = _text(row, "body")
    parent = texts.get(str(row.get("parent_id", "")), "")
    pair = (parent, body, "post-comment") if parent and len(body) >= MIN_CHARACTERS else None
    return f"t1_{row.get('id')}", body, pair


def _text(row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    text = value.strip() if isinstance(value, str) else ""
    return "" if text in _GONE else text


def _refusal(row: dict[str, Any], pair: tuple[str, str, str] | None, min_score: int) -> str | None:
    score = row.get("score", min_score)
    if not isinstance(score, (int, float)):
        return "bad score"
    if score < min_score:
        return f"score under {min_score}"
    if pair is None:
        return "post without a body" if "title" in row else "comment without its post"
    return None
