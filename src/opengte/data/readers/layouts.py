"""Field names of pair rows, by whose convention: a row in, its ``Pair`` objects out.

A layout is chosen once a file, from the first row, so that a later row that lacks a field is an
error and not another layout. ``LAYOUTS`` is tried in order; the first whose required fields
are all there is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from opengte.data.readers.bad_rows import RowError
from opengte.data.readers.issues import (
    github_issue_pairs,
    jira_issue_pairs,
    jira_table_pairs,
)
from opengte.data.readers.news import news_pairs
from opengte.data.readers.papers import arxiv_pairs, s2orc_pairs
from opengte.data.readers.row_values import (
    Row,
    number_of,
    numbers_of,
    score_of,
    show,
    text_of,
    texts_of,
)
from opengte.records import Pair

ToPairs = Callable[[Row, str], Sequence[Pair]]
"""(row, origin) to the pairs of that row; raises ``RowError``."""


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
    negatives = texts_of(row, "negatives") or _numbered_negatives(row)
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
            _label(row, "group"),
            _label(row, "kind"),
            _label(row, "origin") or origin,
        ),
    )


def anchor_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """sentence-transformers: anchor, positive, negative or negative_1 ... negative_n."""
    pair = Pair(
        text_of(row, "anchor"),
        text_of(row, "positive"),
        texts_of(row, "negatives") or _numbered_negatives(row),
        score_of(row, "score"),
        origin=origin,
    )
    return (pair,)


def scored_sentences(first: str, second: str) -> ToPairs:
    """Two sentences and a similarity in ``score``, ``similarity_score`` or ``label``."""

    def to_pairs(row: Row, origin: str) -> Sequence[Pair]:
        score = None
        for field in ("score", "similarity_score", "label", "labels"):
            if row.get(field) is not None:
                score = _similarity(row, field)
                break
        return (Pair(text_of(row, first), text_of(row, second), score=score, origin=origin),)

    return to_pairs


def flag_embedding_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """FlagEmbedding: query, pos [], neg [], pos_scores [], neg_scores [], prompt, type.

    One pair for each positive, each with all negatives. Teacher scores that leave [0, 1] are
    moved so that the positive has 1: distillation reads differences alone, and a score of 0
    or less would mean "no match". ``prompt`` belongs to the source, not to the text, and is
    left to the mixture.
    """
    query = text_of(row, "query")
    positives = texts_of(row, "pos")
    negatives = texts_of(row, "neg")
    if not positives:
        raise RowError("no positive", "field 'pos' is empty; it needs at least one text")
    positive_scores = numbers_of(row, "pos_scores")
    negative_scores = numbers_of(row, "neg_scores")
    for field, scores, texts in (
        ("pos_scores", positive_scores, positives),
        ("neg_scores", negative_scores, negatives),
    ):
        if scores and len(scores) != len(texts):
            message = f"{len(scores)} {field} for {len(texts)} {field[:3]}"
            raise RowError(f"bad {field}", message)
    kind = _label(row, "type")
    return [
        _teacher_pair(
            query,
            text,
            negatives,
            positive_scores[number] if positive_scores else None,
            negative_scores,
            kind,
            origin,
        )
        for number, text in enumerate(positives)
    ]


def _teacher_pair(
    query: str,
    positive: str,
    negatives: tuple[str, ...],
    score: float | None,
    negative_scores: tuple[float, ...],
    kind: str,
    origin: str,
) -> Pair:
    if score is not None and not all(0.0 < s <= 1.0 for s in (score, *negative_scores)):
        negative_scores = tuple(s - score + 1.0 for s in negative_scores)
        score = 1.0
    return Pair(query, positive, negatives, score, negative_scores, "", kind, origin)


def tevatron_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """Tevatron inline: query, positive_passages [{title, text}], negative_passages."""
    query = text_of(row, "query")
    positives = _passages(row, "positive_passages")
    negatives = _passages(row, "negative_passages")
    if not positives:
        raise RowError("no positive", "field 'positive_passages' is empty")
    return [Pair(query, positive, negatives, origin=origin) for positive in positives]


def _passages(row: Row, field: str) -> tuple[str, ...]:
    value = row.get(field) or ()
    if not isinstance(value, (list, tuple)):
        raise RowError(f"bad {field}", f"field {field!r} must be a list, got {show(value)}")
    texts = []
    for passage in value:
        if not isinstance(passage, dict):
            message = f"field {field!r} must hold objects with 'text', got {show(passage)}"
            raise RowError(f"bad {field}", message)
        title = passage.get("title")
        text = text_of(passage, "text")
        texts.append(f"{title} {text}" if isinstance(title, str) and title.strip() else text)
    return tuple(texts)


def nemo_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """NeMo's retrieval fine-tuning: query, pos_doc, neg_doc []."""
    query, positives = text_of(row, "query"), texts_of(row, "pos_doc")
    if not positives:
        raise RowError("no positive", "field 'pos_doc' is empty")
    negatives = texts_of(row, "neg_doc")
    return [Pair(query, positive, negatives, origin=origin) for positive in positives]


def message_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """ms-swift: messages, positive_messages, negative_messages; a system message is a prompt.

    ``messages`` is one conversation, the other two are lists of conversations (or one). A
    ``label`` is the pair's similarity, as swift's cosine-similarity loss reads it.
    """
    query = _conversation(row.get("messages"), "messages")
    positives = _conversations(row, "positive_messages")
    negatives = _conversations(row, "negative_messages")
    if not positives:
        raise RowError("no positive", "field 'positive_messages' is empty")
    score = score_of(row, "label")
    return [Pair(query, positive, negatives, score, origin=origin) for positive in positives]


def _conversations(row: Row, field: str) -> tuple[str, ...]:
    value = row.get(field) or ()
    if value and isinstance(value, (list, tuple)) and isinstance(value[0], dict):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise RowError(f"bad {field}", f"field {field!r} must be a list, got {show(value)}")
    return tuple(_conversation(each, field) for each in value)


def _conversation(messages: Any, field: str) -> str:
    """The text of all messages but the system's, in order."""
    if not isinstance(messages, (list, tuple)):
        raise RowError(f"bad {field}", f"field {field!r} must hold messages, got {show(messages)}")
    texts = []
    for message in messages:
        if not isinstance(message, dict):
            raise RowError(f"bad {field}", f"{field} must hold objects, got {show(message)}")
        if message.get("role") != "system":
            texts.append(text_of(message, "content"))
    if not texts:
        raise RowError(f"bad {field}", f"field {field!r} holds no message but the system's")
    return "\n".join(texts)


def response_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """ms-swift before 3.8: query, response, rejected_response (a text or a list), label."""
    pair = Pair(
        text_of(row, "query"),
        text_of(row, "response"),
        texts_of(row, "rejected_response"),
        score_of(row, "label"),
        origin=origin,
    )
    return (pair,)


def two_columns(query: str, positive: str) -> ToPairs:
    """Any two text fields, with the optional fields of our own rows."""

    def to_pairs(row: Row, origin: str) -> Sequence[Pair]:
        pair = Pair(
            text_of(row, query),
            text_of(row, positive),
            texts_of(row, "negatives") or _numbered_negatives(row),
            score_of(row, "score"),
            (),
            _label(row, "group"),
            _label(row, "kind"),
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


def _similarity(row: Row, field: str) -> float | None:
    if isinstance(row[field], str) and number_or_none(row[field]) is None:
        message = (
            f"field {field!r} holds the name {row[field]!r}, where a similarity was expected; "
            "read named labels with format='nli'"
        )
        raise RowError(f"bad {field}", message)
    return score_of(row, field)


def number_or_none(value: str) -> float | None:
    """The number a text spells, or None."""
    try:
        return number_of({"": value}, "")
    except RowError:
        return None


def _numbered_negatives(row: Row) -> tuple[str, ...]:
    """negative, or negative_1 ... negative_n, in the order of their numbers."""
    names = [name for name in row if name.startswith("negative") and name != "negative_scores"]
    numbered = [name for name in names if name == "negative" or name[9:].isdigit()]
    numbered.sort(key=lambda name: int(name[9:] or 0))
    return tuple(text for name in numbered for text in texts_of(row, name))


def _label(row: Row, field: str) -> str:
    value = row.get(field)
    if value is None:
        return ""
    if type(value) is not str:
        raise RowError(f"bad {field}", f"field {field!r} must be a text, got {show(value)}")
    return value
