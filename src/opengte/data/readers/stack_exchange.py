"""Stack Exchange dumps: Posts.xml (and Comments.xml beside it) to pairs of three kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.html_text import html_text
from opengte.data.readers.xml_stream import xml_events
from opengte.errors import DataError
from opengte.records import Pair

QUESTION, ANSWER = "1", "2"
MIN_COMMENT_CHARACTERS = 20


def read_stack_exchange(path: Path, bad_rows: BadRows, *, min_score: int = 0) -> Iterator[Pair]:
    """Yield (title, body), (question title, answer) and (question title, comment).

    One pass over ``Posts.xml`` keeps the titles in memory (about 100 bytes a question); answers
    follow their questions in the dumps, since ids grow.

    Args:
        path: ``Posts.xml``, or a dump's folder, whose ``Comments.xml`` is read too.
        bad_rows: what to do with rows that cannot be used.
        min_score: posts and comments with fewer votes are left out, counted.
    """
    posts = path / "Posts.xml" if path.is_dir() else path
    if not posts.exists():
        raise DataError("no Posts.xml in this folder", path=path)
    titles: dict[str, str] = {}
    for row, line in _rows(posts, bad_rows):
        kind = row.get("PostTypeId")
        if kind == QUESTION:
            titles[row.get("Id", "")] = row.get("Title", "")
        elif kind != ANSWER:
            continue
        parent = row.get("ParentId", "") if kind == ANSWER else row.get("Id", "")
        text = html_text(row.get("Body", ""))
        reason = _refusal(row, titles.get(parent, ""), text, min_score)
        if reason is not None:
            bad_rows.report.skip(reason, path=posts, line=line)
            continue
        yield Pair(
            titles[parent],
            text,
            group=f"{posts.parent.name}:{parent}",
            kind="title-body" if kind == QUESTION else "question-answer",
            origin=f"{posts.name}:{line}",
        )
    comments = path / "Comments.xml"
    if path.is_dir() and comments.exists():
        yield from _comment_pairs(comments, titles, bad_rows, min_score)


def _comment_pairs(
    path: Path, titles: dict[str, str], bad_rows: BadRows, min_score: int
) -> Iterator[Pair]:
    for row, line in _rows(path, bad_rows):
        parent = row.get("PostId", "")
        if parent not in titles:
            continue  # a comment on an answer
        text = row.get("Text", "").strip()
        reason = _refusal(row, titles[parent], text, min_score)
        if reason is None and len(text) < MIN_COMMENT_CHARACTERS:
            reason = f"comment under {MIN_COMMENT_CHARACTERS} characters"
        if reason is not None:
            bad_rows.report.skip(reason, path=path, line=line)
            continue
        yield Pair(
            titles[parent],
            text,
            group=f"{path.parent.name}:{parent}",
            kind="post-comment",
            origin=f"{path.name}:{line}",
        )


def _refusal(row: dict[str, str], title: str, text: str, min_score: int) -> str | None:
    if not title.strip():
        return "post without its question"
    if not text.strip():
        return "blank text"
    try:
        score = int(row.get("Score", "0"))
    except ValueError:
        return "bad score"
    return f"score under {min_score}" if score < min_score else None


def _rows(path: Path, bad_rows: BadRows) -> Iterator[tuple[dict[str, str], int]]:
    for event, name, attributes, line in xml_events(path, bad_rows):
        if event == "start" and name == "row":
            yield attributes, line
