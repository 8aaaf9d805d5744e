"""reStructuredText to sections: headings by their underlines, roles and directives made plain.

A line scan and not docutils: docutils resolves what we throw away, at 0.1 MB a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from opengte.data.readers.sections import Section
from opengte.data.readers.word_set import word_set

CODE_DIRECTIVES = frozenset({"code", "code-block", "sourcecode", "parsed-literal", "doctest"})
"""Directives whose argument is the name of a language."""

_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_ROLE = re.compile(r":(?:[\w.+-]+:){1,2}`([^`]+)`|:(?:[\w.+-]+)`([^`]+)`")
_TICKS = re.compile(r"``([^`]+)``|`([^`<]+?)(?:\s*<[^`>]*>)?`(?:__?)?")
_EMPHASIS = re.compile(r"(\*\*?)(?=\S)(.+?)(?<=\S)\1")
_REFERENCE = re.compile(r"(?<=[^\W_])_(?=[\s.,;:)]|$)|\[[#*\w]+\]_|\|([^|\s][^|]*)\|_{0,2}")
_DIRECTIVE = re.compile(r"(\s*)\.\.(?:\s|$)")
_NAMED = re.compile(r"\s*\.\.\s+([\w:+.-]+)::\s*(.*)$")
_OPTION = re.compile(r"\s+:[\w -]+:")

PROSE_DIRECTIVES = word_set(
    "note warning tip hint important caution attention danger error seealso admonition "
    "versionadded versionchanged deprecated topic sidebar rubric code code-block sourcecode "
    "parsed-literal doctest math function method class data attribute module exception option "
    "describe object py:function py:class py:method py:attribute py:data confval envvar "
    "program cmdoption glossary list-table"
)
"""Directives whose content is text that people read; the rest is left out with its content."""


def rst_sections(text: str) -> Iterator[Section]:
    """Yield the sections of a document; levels follow the order in which styles appear."""
    lines = text.expandtabs(8).split("\n")
    styles: list[tuple[str, bool]] = []
    heading, level, start = "", 0, 1
    body: list[str] = []
    position = 0
    while position < len(lines):
        found = _heading_at(lines, position)
        if found is None:
            body.append(lines[position])
            position += 1
            continue
        yield Section(heading, level, clean(body), start)
        title, style, taken = found
        if style not in styles:
            styles.append(style)
        heading, level, start = clean_inline(title), styles.index(style) + 1, position + 1
        body = []
        position += taken
    yield Section(heading, level, clean(body), start)


def _heading_at(lines: list[str], position: int) -> tuple[str, tuple[str, bool], int] | None:
    """(title, (character, has an overline), lines it takes), if a heading begins here."""
    line = lines[position].rstrip()
    if not line:
        return None
    following = [each.rstrip() for each in lines[position + 1 : position + 3]]
    if _is_rule(line):
        if len(following) == 2 and following[1] == line and following[0].strip():
            title = following[0].strip()
            if len(line) >= _width(title) and not _is_rule(following[0]):
                return title, (line[0], True), 3
        return None
    if line[0].isspace() or not following or not _is_rule(following[0], shortest=1):
        return None
    above = lines[position - 1].strip() if position else ""
    if above and not _is_rule(above) and not _DIRECTIVE.match(above):
        return None  # the last line of a paragraph; a target or comment may stand above
    if len(following[0]) < min(4, _width(line)):
        return None  # as docutils has it: from four characters on, too short is forgiven
    return line, (following[0][0], False), 2


def _is_rule(line: str, shortest: int = 2) -> bool:
    return len(line) >= shortest and line[0] in _PUNCTUATION and not line.strip(line[0])


def _width(text: str) -> int:
    return sum(2 if char >= "\u2e80" else 1 for char in text)


def clean(lines: list[str]) -> str:
    """The text of a section without directives, comments, targets and inline markup."""
    kept: list[str] = []
    position = 0
    while position < len(lines):
        line = lines[position]
        if not _DIRECTIVE.match(line):
            kept.append(_clean_line(line))
            position += 1
            continue
        indent = len(line) - len(line.lstrip())
        end = _end_of_block(lines, position + 1, indent)
        named = _NAMED.match(line)
        if named and named[1].lower() in PROSE_DIRECTIVES:
            if named[1].lower() not in CODE_DIRECTIVES:
                kept.append(clean_inline(named[2]))
            body = lines[position + 1 : end]
            while body and _OPTION.match(body[0]):
                body = body[1:]
            kept.extend(clean(_dedent(body)).split("\n"))
        kept.append("")
        position = end
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")


def _end_of_block(lines: list[str], position: int, indent: int) -> int:
    """The first line from ``position`` that is no deeper than ``indent`` and not blank."""
    while position < len(lines):
        line = lines[position]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            return position
        position += 1
    return position


def _dedent(lines: list[str]) -> list[str]:
    depths = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    depth = min(depths, default=0)
    return [line[depth:] for line in lines]


def _clean_line(line: str) -> str:
    bare = line.rstrip()
    if _is_rule(bare.replace(" ", "")) and len(bare) > 3 and bare.strip()[0] in "=+-":
        return ""  # the rules of tables and transitions
    if bare.endswith("::"):
        bare = bare[:-2].rstrip() + ":" if bare != "::" else ""
    return clean_inline(bare)


def clean_inline(text: str) -> str:
    """Plain text of one line: a role shows its target's last name, a link its own text."""
    if "`" in text:
        text = _ROLE.sub(_role_text, text)
        text = _TICKS.sub(lambda found: found[1] or found[2], text)
    if "*" in text:
        text = _EMPHASIS.sub(r"\2", text)
    if "_" in text or "|" in text:
        text = _REFERENCE.sub(lambda found: found[1] or "", text)
    return text.rstrip()


def _role_text(found: re.Match[str]) -> str:
    shown = found[1] or found[2]
    if shown.endswith(">") and "<" in shown:
        return shown[: shown.rindex("<")].strip()
    return shown[1:].rsplit(".", 1)[-1] if shown.startswith("~") else shown.lstrip("!")
