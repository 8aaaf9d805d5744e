"""Wikipedia dumps (MediaWiki XML export) to (entity, description) and (heading, section)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.sections import Section, is_boilerplate, num_words
from opengte.data.readers.wikitext import HEADING, plain_wikitext
from opengte.data.readers.xml_stream import Element, xml_elements
from opengte.records import Pair

MIN_WORDS = 8
_REDIRECT = re.compile(r"\s*#\s*(?:redirect|weiterleitung|redirection|重定向)", re.IGNORECASE)


def read_wikipedia(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield pairs of every article of a ``pages-articles`` dump, page by page.

    The lead describes the entity that the title names; a section is asked for by title and
    heading. Redirects, other namespaces and stubs are counted.
    """
    for page in xml_elements(path, "page", bad_rows):
        title = page.child_text("title").strip()
        reason = _refusal(page)
        if reason is not None:
            bad_rows.report.skip(reason, path=path, line=page.line, detail=title)
            continue
        revision = page.child("revision")
        text = "" if revision is None else revision.child_text("text")
        for section in wiki_sections(text, page.line):
            if num_words(section.text) < MIN_WORDS or is_boilerplate(section.heading):
                bad_rows.report.skip("short or boilerplate section", path=path, line=page.line)
                continue
            lead = not section.heading
            yield Pair(
                title if lead else f"{title}: {section.heading}",
                section.text,
                group=title,
                kind="entity-description" if lead else "heading-section",
                origin=f"{path.name}:{page.line}",
            )


def wiki_sections(text: str, line: int) -> Iterator[Section]:
    """The lead (without a heading) and the sections of one article, as plain text."""
    heading, start, level = "", 0, 1
    for found in HEADING.finditer(text):
        yield Section(heading, level, plain_wikitext(text[start : found.start()]), line)
        heading, start, level = plain_wikitext(found[2]), found.end(), len(found[1])
    yield Section(heading, level, plain_wikitext(text[start:]), line)


def _refusal(page: Element) -> str | None:
    if page.child_text("ns").strip() not in ("", "0"):
        return "page of another namespace"
    revision = page.child("revision")
    if page.child("redirect") is not None or revision is None:
        return "redirect"
    if _REDIRECT.match(revision.child_text("text")):
        return "redirect"
    return None if page.child_text("title").strip() else "page without a title"
