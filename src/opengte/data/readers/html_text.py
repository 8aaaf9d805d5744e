"""A fragment of HTML to its text: paragraphs apart, code kept, tags gone."""

from __future__ import annotations

from html import unescape

from opengte.data.readers.html_sections import html_sections


def html_text(fragment: str) -> str:
    """The readable text of a post or a comment; plain text comes back as it was."""
    if "<" not in fragment:
        return unescape(fragment).strip() if "&" in fragment else fragment.strip()
    parts: list[str] = []
    for section in html_sections(fragment):
        parts.extend(part for part in (section.heading, section.text) if part.strip())
    return "\n\n".join(parts)
