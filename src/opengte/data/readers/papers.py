"""Scholarly records as JSON rows: S2ORC style and arXiv metadata, to their pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opengte.data.readers.bad_rows import NoPairError
from opengte.data.readers.row_values import Row, text_of
from opengte.records import Pair


def arxiv_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """(title, abstract) of arXiv's metadata snapshot: line breaks of the fields are undone."""
    title, abstract = _one_line(text_of(row, "title")), _one_line(text_of(row, "abstract"))
    return (Pair(title, abstract, kind="title-abstract", group=_id(row), origin=origin),)


def s2orc_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """(title, abstract), and (citing sentence, title of the cited paper) where the body has both.

    Reads the layouts of S2ORC's releases: ``abstract`` as a text or as paragraphs ``{"text"}``
    and the body under ``body_text`` or ``pdf_parse``, whose ``cite_spans`` name ``bib_entries``.
    """
    title = _one_line(text_of(row, "title"))
    parsed = row.get("pdf_parse")
    parse: Row = parsed if isinstance(parsed, dict) else row
    abstract = _paragraphs(row.get("abstract")) or _paragraphs(parse.get("abstract"))
    pairs = []
    if abstract:
        pairs.append(Pair(title, abstract, kind="title-abstract", group=_id(row), origin=origin))
    entries = parse.get("bib_entries")
    if isinstance(entries, dict):
        for sentence, cited in _citations(parse.get("body_text"), entries):
            pair = Pair(sentence, cited, kind="citation-reference", group=_id(row), origin=origin)
            pairs.append(pair)
    if not pairs:
        raise NoPairError("paper without an abstract", "neither an abstract nor cited titles in it")
    return pairs


def _citations(body: Any, entries: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for paragraph in body if isinstance(body, list) else []:
        if not isinstance(paragraph, dict) or not isinstance(paragraph.get("text"), str):
            continue
        for span in paragraph.get("cite_spans") or []:
            entry = entries.get(str(span.get("ref_id"))) if isinstance(span, dict) else None
            title = entry.get("title") if isinstance(entry, dict) else None
            start = span.get("start") if isinstance(span, dict) else None
            if isinstance(title, str) and title.strip() and isinstance(start, int):
                sentence = _sentence_at(paragraph["text"], start)
                if sentence:
                    found.append((sentence, _one_line(title)))
    return found


def _sentence_at(text: str, position: int) -> str:
    """The sentence around ``position``: from the last full stop and space to the next."""
    position = max(0, min(position, len(text)))
    start = max(text.rfind(stop, 0, position) for stop in (". ", "? ", "! ", "\n"))
    ends = [text.find(stop, position) for stop in (". ", "? ", "! ", "\n")]
    end = min((each for each in ends if each >= 0), default=len(text) - 1)
    return _one_line(text[start + 1 : end + 1])


def _paragraphs(value: Any) -> str:
    if isinstance(value, str):
        return _one_line(value)
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, dict)]
        return "\n\n".join(
            _one_line(text) for text in texts if isinstance(text, str) and text.strip()
        )
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _id(row: Row) -> str:
    for field in ("paper_id", "corpusid", "corpus_id", "s2_id", "doc_id", "id", "_id"):
        if isinstance(row.get(field), (str, int)):
            return str(row[field])
    return ""
