"""Titled sections of documents: headings and texts in, pairs out, boilerplate counted away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opengte.data.readers.report import ReadReport
from opengte.data.readers.word_set import word_set
from opengte.records import Pair

MIN_SECTION_WORDS = 8

BOILERPLATE = word_set(
    "acknowledgement acknowledgements acknowledgment acknowledgments authors author "
    "bibliography changelog changes contents contributors copyright credits footer history "
    "imprint index indices legal licence license licenses licensing links maintainers menu "
    "metadata navigation none notice references sponsors toc trademarks"
) | {
    "backers",
    "change log",
    "code of conduct",
    "contact us",
    "external links",
    "further reading",
    "how to cite",
    "indices and tables",
    "on this page",
    "release notes",
    "see also",
    "star history",
    "table of contents",
    "what's new",
    "目录",
    "许可证",
}

# "1.2.3 (2024-01-01)", "v0.4", "Version 2.0", "[Unreleased]", "2024-05-01", "Release 3.1".
_VERSION = re.compile(
    r"\[?(?:v(?:ersion)?\.?|release|changes in|new in)?\s*\d+(?:\.\d+)+[\w.+-]*\]?|"
    r"\[?unreleased\]?|\d{4}-\d\d-\d\d|v\d+\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]\w*")
_NUMBERING = re.compile(r"^(?:\d+(?:\.\d+)*\.?|[ivxIVX]+\.|§)\s+")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text below it, down to the next heading.

    Attributes:
        heading: as shown, without markup; ``""`` for what stands before the first one.
        level: 1 for a title, 2 below it, ...
        text: without markup, paragraphs apart by an empty line.
        line: of the heading, from 1.
    """

    heading: str
    level: int
    text: str
    line: int


def section_pairs(
    sections: Iterable[Section],
    *,
    path: str,
    title: str = "",
    group: str = "",
    report: ReadReport | None = None,
) -> Iterator[Pair]:
    """Pair each heading, with the document's title in front, with its section.

    The text right below the title describes the whole: it becomes a ``title-description``.

    Args:
        sections: in reading order.
        path: the file, for ``origin`` and the report.
        title: of the document, where it does not stand in its first heading.
        group: passed on to the pairs.
        report: counts the sections that are left out, by reason.
    """
    report = ReadReport() if report is None else report
    described = False
    for section in sections:
        heading = _NUMBERING.sub("", section.heading).strip().rstrip(":").rstrip()
        is_title = not title and section.level == 1 and bool(heading)
        reason = refusal(heading or title, section.text)
        if reason is None and not heading and described:
            reason = "page without a heading"
        if is_title:
            title = heading
        if reason is not None:
            if section.text:
                report.skip(reason, path=path, line=section.line, detail=heading[:60])
            continue
        describes = is_title or not heading
        described = described or describes
        yield Pair(
            query=title if describes else _query(title, heading),
            positive=section.text,
            group=group,
            kind="title-description" if describes else "heading-section",
            origin=f"{path}:{section.line}",
        )


def _query(title: str, heading: str) -> str:
    return f"{title}: {heading}" if title else heading


def refusal(heading: str, text: str) -> str | None:
    """Why a section makes no pair, or None."""
    if not _WORD.search(heading):
        return "section without a heading"
    if is_boilerplate(heading):
        return "boilerplate section"
    if num_words(text) < MIN_SECTION_WORDS:
        return f"section under {MIN_SECTION_WORDS} words"
    return None


def is_boilerplate(heading: str) -> bool:
    """Whether every project has a section of that name: a licence, contents, a version."""
    plain = heading.strip(" *:#¶-").lower()
    return plain in BOILERPLATE or _VERSION.match(plain) is not None


def num_words(text: str) -> int:
    """Words of ``text``; in scripts without spaces two characters count as one."""
    total = 0
    for word in _WORD.findall(text):
        total += 1 if word[0] < "\u2e80" else max(1, len(word) // 2)
    return total
