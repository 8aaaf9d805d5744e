"""Wikitext to plain text: templates, tables, references and link targets cut away."""

from __future__ import annotations

import re
from html import unescape

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_REFERENCE = re.compile(r"<ref\b[^>]*?/>|<ref\b[^>]*>.*?</ref\s*>", re.DOTALL | re.IGNORECASE)
_DROPPED = re.compile(
    r"<(math|gallery|timeline|source|syntaxhighlight|score|table)\b[^>]*>.*?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:)?//[^\s\]]+\s*([^\]]*)\]")
_QUOTES = re.compile(r"'{2,5}")
_MAGIC = re.compile(r"__[A-Z]+__")
_FILE = re.compile(r"\s*:?\s*(?:file|image|category|datei|bild|fichier|archivo)\s*:", re.IGNORECASE)
_EMPTY_BRACKETS = re.compile(r"\(\s*[;,]?\s*\)|\s+(?=[,.;)])")
_SPACES = re.compile(r"[ \t]{2,}")
HEADING = re.compile(r"^(={1,6})\s*(.+?)\s*\1\s*$", re.MULTILINE)


def plain_wikitext(text: str) -> str:
    """Readable text; paragraphs stay apart, list marks are dropped."""
    text = _DROPPED.sub("", _REFERENCE.sub("", _COMMENT.sub("", text)))
    text = _without_nested(text, "{{", "}}")
    text = _without_nested(text, "{|", "|}")
    text = _links(text)
    text = _QUOTES.sub("", _MAGIC.sub("", _TAG.sub("", _EXTERNAL.sub(r"\1", text))))
    lines = [line.strip().lstrip("*#:; ") for line in unescape(text).split("\n")]
    plain = "\n".join(_SPACES.sub(" ", _EMPTY_BRACKETS.sub("", line)) for line in lines)
    return re.sub(r"\n{3,}", "\n\n", plain.replace("\u00a0", " ")).strip()


def _without_nested(text: str, opening: str, closing: str) -> str:
    """Cut what stands between marks that may nest; an unclosed one is left as it is."""
    pieces: list[str] = []
    depth, kept, start = 0, 0, 0
    for found in re.finditer(f"{re.escape(opening)}|{re.escape(closing)}", text):
        if found[0] == opening:
            if depth == 0:
                start = found.start()
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                pieces.append(text[kept:start])
                kept = found.end()
    return "".join(pieces) + text[kept:]


def _links(text: str) -> str:
    """``[[target|shown]]`` to ``shown``, innermost first; files and categories vanish."""
    link = re.compile(r"\[\[([^\[\]]*)\]\]")
    for _ in range(5):  # captions of images nest links, rarely deeper
        text, number = link.subn(_link_text, text)
        if not number:
            break
    return text


def _link_text(found: re.Match[str]) -> str:
    inside = found[1]
    if _FILE.match(inside):
        return ""
    return inside.rsplit("|", 1)[-1]
