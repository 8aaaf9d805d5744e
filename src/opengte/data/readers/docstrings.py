"""Docstrings: the indented text in, a search query and titled sections out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc

# numpy style is a heading over dashes, Google style a known word and a colon alone on a line.
_GOOGLE = re.compile(
    r"(?:Args|Arguments|Attributes|Examples?|Keyword Args|Keyword Arguments|Methods|Notes?|"
    r"Other Parameters|Parameters|Params|Raises|References|Returns?|See Also|Tips?|Todo|Usage|"
    r"Warnings?|Warns|Yields?|Shape|Shapes|Inputs?|Outputs?|Limitations|Remarks)\s*:\s*$"
)
_UNDERLINE = re.compile(r"(-{3,}|={3,}|~{3,})\s*$")
# :param x:, @param x, >>> code, a directive, or a Google heading alone on its line.
_END_OF_PROSE = re.compile(
    r"\s*(?::(?:param|type|return|returns|rtype|raises|raise|arg|args|keyword|var|ivar|cvar|"
    r"meta)\b|@(?:param|return|returns|raise|raises|type)\b|>>>|\.\. |"
    r"(?:Args|Arguments|Parameters|Params|Returns?|Raises|Yields?|Examples?|Attributes)\s*:\s*$)"
)
# What ends a paragraph, but may begin one: "x : int", "Returns: the sum".
_LIST_OF_NAMES = re.compile(
    r"\s*(?:[\w*, ]{1,40} : \S|(?:Args|Arguments|Parameters|Returns?|Raises|Yields?):\s)"
)
_ROLE = re.compile(r":(?:[\w+-]+:){1,2}`([^`]*)`")
_TICKS = re.compile(r"``?([^`]+)``?")
_TEMPLATE = re.compile(r"%\(\w+\)s")  # what a decorator fills in, as scipy's do
_WORD = re.compile(r"[^\W\d_]\w*")

TRIVIAL = re.compile(
    r"(?:see|refer to|todo|fixme|xxx|deprecated|inherit(?:ed|s)?|same as|alias (?:for|of|to)|"
    r"docstring|placeholder|not implemented|override[sn]?|documentation|test (?:for|that)\b)\b",
    re.IGNORECASE,
)
"""Beginnings of docstrings that point elsewhere instead of saying something."""

MIN_QUERY_WORDS = 4

PARAMETER_SECTIONS = frozenset(
    {
        "args",
        "arguments",
        "attributes",
        "keyword args",
        "keyword arguments",
        "methods",
        "other parameters",
        "parameters",
        "params",
        "raises",
        "receives",
        "references",
        "return",
        "returns",
        "see also",
        "yield",
        "yields",
    }
)
"""Lists of names and types: part of a description's noise, no section of their own."""


def query_of(docstring: str) -> str:
    """The first paragraph as one line: no doctest, no parameter list, no markup of references.

    Empty when the docstring begins with one of those.
    """
    lines: list[str] = []
    for line in cleandoc(docstring).split("\n"):
        bare = line.strip()
        if not bare:
            if lines:
                break
            continue
        if _UNDERLINE.match(bare):
            # The line above was a heading: of the whole ("Summary"), or of a list of names.
            heading = lines.pop() if lines else ""
            if lines or heading.lower() in PARAMETER_SECTIONS:
                break
            continue
        if _END_OF_PROSE.match(line) or (lines and _LIST_OF_NAMES.match(line)):
            break
        lines.append(bare)
    return plain_prose(" ".join(lines))


def plain_prose(text: str) -> str:
    """White space made single, ``:func:`name``` and back-ticked code made plain."""
    if "`" in text:
        text = _TICKS.sub(r"\1", _ROLE.sub(_target, text))
    if "%(" in text:
        text = _TEMPLATE.sub("", text)
    return " ".join(text.split())


def _target(match: re.Match[str]) -> str:
    shown = match.group(1)
    if shown.endswith(">") and " <" in shown:
        return shown.rsplit(" <", 1)[0]
    return shown.lstrip("~!").rsplit(".", 1)[-1] if shown.startswith("~") else shown.lstrip("!")


def triviality(query: str) -> str | None:
    """Why ``query`` is no question worth asking, or None.

    CJK characters count as words, two for one.
    """
    if not query:
        return "docstring without prose"
    if TRIVIAL.match(query):
        return "trivial docstring"
    words = sum(_weight(word) for word in _WORD.findall(query))
    return None if words >= MIN_QUERY_WORDS else "docstring under 4 words"


def _weight(word: str) -> float:
    return max(1.0, len(word) / 2) if word[0] >= "\u2e80" else 1.0


def docstring_sections(docstring: str) -> Iterator[tuple[str, int, str]]:
    """Yield (heading, line from 0 in the cleaned docstring, text); what is in front has ``""``."""
    lines = cleandoc(docstring).split("\n")
    heading, start, body = "", 0, []
    position = 0
    while position < len(lines):
        found = _heading_at(lines, position)
        if found is None:
            if not _UNDERLINE.match(lines[position]):  # an overline, or a rule
                body.append(lines[position])
            position += 1
            continue
        yield heading, start, "\n".join(body).strip("\n")
        heading, taken = found
        start, body = position, []
        position += taken
    yield heading, start, "\n".join(body).strip("\n")


def _heading_at(lines: list[str], position: int) -> tuple[str, int] | None:
    """(heading, lines it takes) when one begins at ``position``."""
    line = lines[position]
    if not line or line[0].isspace():
        return None
    if position + 1 < len(lines):
        under = lines[position + 1]
        if under[:1] in "-=~" and _UNDERLINE.match(under) and len(line) < 80:
            return line.strip(), 2
    if line.rstrip().endswith(":") and _GOOGLE.match(line):
        return line.rstrip().rstrip(":").rstrip(), 1
    return None
