"""Field names of pair rows, by whose convention: a row in, its ``Pair`` objects out.

A layout is chosen once a file, from the first row, so that a later row that lacks a field is an
error and not another layout. ``LAYOUTS`` is tried in order; the first whose required fields
are all there is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opengte.data.readers.bad_rows import RowError
from opengte.data.readers.issues import (
    github_issue_pairs,
    jira_issue_pairs,
    jira_table_pairs,
)
from opengte.data.readers.news import news_pairs
from opengte.data.readers.papers import arxiv_pairs, s2orc_pairs
from opengte.data.readers.peers import (
    ToPairs,
    anchor_pairs,
    flag_embedding_pairs,
    message_pairs,
    nemo_pairs,
    response_pairs,
    scored_sentences,
    tevatron_pairs,
)
from opengte.data.readers.row_values import (
    Row,
    label_of,
    numbered_negatives,
    numbers_of,
    score_of,
    text_of,
    texts_of,
)
from opengte.records import Pair


@dataclass(frozen=True)
class Layout:
    """One convention of field names.

    Attributes:
        name: whose convention it is.
        required: fields without which a row is not of this layout.
        to_pairs: makes the pairs of one row.
    """

    name: str
    required: tuple[str, ...]
    to_pairs: ToPairs


def opengte_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """Our own rows: every field of ``Pair`` under its own name."""
    query = row.get("query")
    positive = row.get("positive")
    if type(query) is not str or not query or query.isspace():
        query = text_of(row, "query")
    if type(positive) is not str or not positive or positive.isspace():
        positive = text_of(row, "positive")
    if len(row) == 2:
        return (Pair(query, positive, origin=origin),)
    negatives = texts_of(row, "negatives") or numbered_negatives(row)
    negative_scores = numbers_of(row, "negative_scores")
    if negative_scores and len(negative_scores) != len(negatives):
        message = f"{len(negative_scores)} negative_scores for {len(negatives)} negatives"
        raise RowError("bad negative_scores", message)
    return (
        Pair(
            query,
            positive,
            negatives,
            score_of(row, "score"),
            negative_scores,
            label_of(row, "group"),
            label_of(row, "kind"),
            label_of(row, "origin") or origin,
        ),
    )


def two_columns(query: str, positive: str) -> ToPairs:
    """Any two text fields, with the optional fields of our own rows."""

    def to_pairs(row: Row, origin: str) -> Sequence[Pair]:
        pair = Pair(
            text_of(row, query),
            text_of(row, positive),
            texts_of(row, "negatives") or numbered_negatives(row),
            score_of(row, "score"),
            (),
            label_of(row, "group"),
            label_of(row, "kind"),
            origin,
        )
        return (pair,)

    return to_pairs


def _two(query: str, positive: str) -> Layout:
    return Layout(f"{query}/{positive}", (query, positive), two_columns(query, positive))


def _sentences(first: str, second: str) -> Layout:
    return Layout(f"{first}/{second}", (first, second), scored_sentences(first, second))


def _news(summary: str, body: str, kind: str) -> Layout:
    return Layout(f"{summary}/{body}", (summary, body), news_pairs(summary, body, kind))


LAYOUTS: tuple[Layout, ...] = (
    Layout("opengte", ("query", "positive"), opengte_pairs),
    Layout("sentence-transformers", ("anchor", "positive"), anchor_pairs),
    Layout("FlagEmbedding", ("query", "pos"), flag_embedding_pairs),
    Layout("Tevatron", ("query", "positive_passages"), tevatron_pairs),
    Layout("NeMo", ("query", "pos_doc"), nemo_pairs),
    Layout("ms-swift", ("messages", "positive_messages"), message_pairs),
    Layout("ms-swift 2", ("query", "response"), response_pairs),
    _sentences("sentence1", "sentence2"),
    _sentences("sentence_A", "sentence_B"),
    _sentences("text1", "text2"),
    _two("question", "answer"),
    Layout("Jira", ("key", "fields"), jira_issue_pairs),
    Layout("Jira CSV", ("Summary", "Description"), jira_table_pairs),
    Layout("GitHub issues", ("number", "title", "body"), github_issue_pairs),
    Layout("arXiv", ("title", "abstract", "categories"), arxiv_pairs),
    Layout("S2ORC", ("paper_id", "title"), s2orc_pairs),
    Layout("S2ORC 2", ("corpusid", "title"), s2orc_pairs),
    _news("highlights", "article", "highlight-body"),
    _news("summary", "document", "summary-content"),
    _news("summary", "article", "summary-content"),
    _news("summary", "text", "summary-content"),
    _news("highlight", "body", "highlight-body"),
    _two("title", "abstract"),
    _two("title", "body"),
    _two("title", "text"),
    _two("headline", "body"),
    _two("docstring", "code"),
    _two("entity", "description"),
)


def find_layout(fields: Iterable[str]) -> Layout:
    """The first layout whose required fields are all among ``fields``.

    Raises:
        RowError: there is none; names the missing field of the one that comes nearest.
    """
    fields = list(fields)
    present = set(fields)
    for layout in LAYOUTS:
        if present.issuperset(layout.required):
            return layout
    found = sorted(str(field) for field in fields)
    shown = str(found) if len(found) <= 12 else f"{str(found[:12])[:-1]}, ...]"
    for layout in LAYOUTS:
        missing = [field for field in layout.required if field not in present]
        if missing and len(missing) < len(layout.required):
            hint = f"name the fields with columns={{'query': ..., '{layout.required[1]}': ...}}"
            hint += " (--column query=...)"
            message = f"no field {missing[0]!r}; found {shown}; rename it, or {hint}"
            raise RowError(f"no field {missing[0]!r}", message)
    message = (
        f"no fields of a pair; found {shown}; expected 'query' and 'positive', or one of: "
        + ", ".join(layout.name for layout in LAYOUTS[1:])
    )
    raise RowError("no fields of a pair", message)


def layout_for_columns(columns: dict[str, str]) -> Layout:
    """A layout from the user's own names: ``{"query": "question", "positive": "answer"}``.

    ``negatives`` and ``score`` may be named too.
    """
    required = (columns.get("query", "query"), columns.get("positive", "positive"))
    unknown = sorted(set(columns) - {"query", "positive", "negatives", "score", "group"})
    if unknown:
        raise RowError(
            "unknown column",
            f"columns names {unknown[0]!r}; it may name query, positive, negatives, score, group",
        )

    def to_pairs(row: Row, origin: str) -> Sequence[Pair]:
        renamed = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
        for ours, theirs in (("query", required[0]), ("positive", required[1])):
            renamed[ours] = text_of(row, theirs)
        return opengte_pairs(renamed, origin)

    return Layout("columns", required, to_pairs)
