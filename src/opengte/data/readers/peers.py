"""Rows of other trainers to pairs: sentence-transformers, FlagEmbedding, Tevatron, NeMo, ms-swift.

Each function reads one convention: (row, origin) in, the row's pairs out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opengte.data.readers.bad_rows import RowError
from opengte.data.readers.row_values import (
    Row,
    label_of,
    number_of,
    numbered_negatives,
    numbers_of,
    score_of,
    show,
    text_of,
    texts_of,
)
from opengte.records import Pair

ToPairs = Callable[[Row, str], Sequence[Pair]]
"""(row, origin) to the pairs of that row; raises ``RowError``."""


def anchor_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """sentence-transformers: anchor, positive, negative or negative_1 ... negative_n."""
    pair = Pair(
        text_of(row, "anchor"),
        text_of(row, "positive"),
        texts_of(row, "negatives") or numbered_negatives(row),
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
    kind = label_of(row, "type")
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


def _similarity(row: Row, field: str) -> float | None:
    if isinstance(row[field], str) and _spelled_number(row[field]) is None:
        message = (
            f"field {field!r} holds the name {row[field]!r}, where a similarity was expected; "
            "read named labels with format='nli'"
        )
        raise RowError(f"bad {field}", message)
    return score_of(row, field)


def _spelled_number(value: str) -> float | None:
    """The number a text spells, or None."""
    try:
        return number_of({"": value}, "")
    except RowError:
        return None
