"""DBpedia abstracts (N-Triples, or Turtle with a triple a line) to (entity, description)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.lines import decode_line, read_lines
from opengte.records import Pair

DESCRIPTIONS = (
    "http://www.w3.org/2000/01/rdf-schema#comment",
    "http://dbpedia.org/ontology/abstract",
    "http://schema.org/description",
)
_TRIPLE = re.compile(
    r'<([^<>]*)>\s+<([^<>]*)>\s+"((?:[^"\\]|\\.)*)"(?:@([\w-]+)|\^\^\S+)?\s*\.\s*$'
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def read_dbpedia(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (entity's name, abstract) for every triple that describes; others are passed over."""
    for number, line in read_lines(path, bad_rows=bad_rows):
        if not line.startswith(b"<"):
            continue  # a comment, a blank line, a prefix
        try:
            found = _TRIPLE.match(decode_line(line))
        except ValueError as error:
            bad_rows.refuse("not UTF-8", str(error), path=path, line=number, cause=error)
            continue
        if found is None or found[2] not in DESCRIPTIONS:
            bad_rows.report.skip("triple that describes nothing", path=path, line=number)
            continue
        name = unquote(found[1].rsplit("/", 1)[-1], errors="replace").replace("_", " ").strip()
        text = unescape_literal(found[3]).strip()
        if not name or not text:
            bad_rows.report.skip("blank text", path=path, line=number)
            continue
        yield Pair(name, text, kind="entity-description", origin=f"{path.name}:{number}")


def unescape_literal(text: str) -> str:
    r"""Undo the escapes of N-Triples (``\n``, ``\u00e9``); half a surrogate becomes U+FFFD."""
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(found: re.Match[str]) -> str:
    digits = found[1] or found[2]
    if digits is None:
        return _PLAIN.get(found[3], found[3])
    code = int(digits, 16)
    return "\ufffd" if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)
