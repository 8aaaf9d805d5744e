"""Markdown to sections: a careful line scan that knows fences, both heading styles and HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from opengte.data.readers.sections import Section

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NO_PARAGRAPH = re.compile(r" {0,3}(?:[-*+>|]|\d+[.)])(?:\s|$)|\s{4,}|\s*$|<")
_RULE = re.compile(r" {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_IMAGE = re.compile(
    r"!\[([^\]\[]*)\](?:\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\)|\[[^\]]*\])"
)
_LINK = re.compile(
    r"\[([^\]\[]+)\](?:\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\)|\[[^\]]*\])"
)
_BARE_LINK = re.compile(r"<(?:https?|mailto):[^>\s]+>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_EMPHASIS = re.compile(r"(\*\*|__|\*|(?<!\w)_)(?=\S)(.+?)(?<=\S)\1(?!\w)")
_DEFINITION = re.compile(r" {0,3}\[[^\]]+\]:\s+\S+.*$")
# Code spans and escaped punctuation: set aside under a NUL and a number, put back at the end.
_LITERAL = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)|\\[\\`*_{}\[\]()#+\-.!|<>~]")
_KEPT = re.compile("\0(\\d+)\0")
_HEADING_ID = re.compile(r"\s*\{#[^}]*\}\s*$")
_ADMONITION = re.compile(r"\s*(?:!!!|\?\?\?\+?|:::+)\s*\w*.*$")


def markdown_sections(text: str) -> Iterator[Section]:
    """Yield the sections of a Markdown document (CommonMark headings, GFM fences).

    Fenced code is kept as text, without the fence; front matter, comments, images and link
    targets are left out. The front matter's ``title`` stands for a missing first heading.
    """
    lines = text.split("\n")
    title, position = _front_matter(lines)
    heading, level, start, body = title, 1 if title else 0, 1, []
    code = False
    paragraph = False
    for number, line in _without_comments(lines, position):
        if line is None:  # the inside of a fence, in the following items
            code = not code
            paragraph = False
            body.append("")  # a fence ends the paragraph above it
            continue
        if code:
            body.append(_CODE + line)
            continue
        found = _ATX.match(line)
        if found:
            yield Section(heading, level, clean(body), start)
            heading = clean_inline(found[2] or "")
            level, start, body, paragraph = len(found[1]), number + 1, [], False
            continue
        under = _SETEXT.match(line)
        if under and paragraph:
            heading_lines = _last_paragraph(body)
            yield Section(heading, level, clean(body), start)
            heading = clean_inline(" ".join(part.strip() for part in heading_lines))
            level = 1 if under[1][0] == "=" else 2
            start, body, paragraph = number + 1 - len(heading_lines), [], False
            continue
        starts = not (_NO_PARAGRAPH.match(line) or _RULE.match(line))
        paragraph = starts or (paragraph and bool(line.strip()))
        body.append(line)
    yield Section(heading, level, clean(body), start)


_CODE = "\0"  # marks a line of code, which ``clean`` leaves alone; NULs of the text are replaced


def _without_comments(lines: list[str], position: int) -> Iterator[tuple[int, str | None]]:
    """Lines with HTML comments cut out; None stands for a fence that opens or closes."""
    fence = ""
    comment = False
    for number in range(position, len(lines)):
        line = lines[number].replace("\0", "\ufffd")
        if fence:
            if _closes(line, fence):
                fence = ""
                yield number, None
            else:
                yield number, line
            continue
        if comment:
            _, mark, line = line.partition("-->")
            if not mark:
                continue
            comment = False
        found = _FENCE.match(line)
        if found and not (found[1][0] == "`" and "`" in found[2]):
            fence = found[1]
            yield number, None
            continue
        if "<!--" in line:
            line = re.sub(r"<!--.*?-->", "", line)
            if "<!--" in line:
                line = line[: line.index("<!--")]
                comment = True
        yield number, line.expandtabs(4)


def _closes(line: str, fence: str) -> bool:
    bare = line.strip()
    return (
        len(line) - len(line.lstrip(" ")) <= 3
        and len(bare) >= len(fence)
        and not bare.strip(fence[0])
    )


def _front_matter(lines: list[str]) -> tuple[str, int]:
    """(title, first line after it) of a YAML head between ``---`` lines; (``""``, 0) if none."""
    if not lines or lines[0].rstrip() != "---":
        return "", 0
    for number in range(1, min(len(lines), 200)):
        if lines[number].rstrip() in ("---", "..."):
            head = lines[1:number]
            titles = [line[6:] for line in head if line.lower().startswith("title:")]
            return (titles[0].strip().strip("'\"").strip() if titles else ""), number + 1
    return "", 0


def _last_paragraph(body: list[str]) -> list[str]:
    """Take the lines of the paragraph that ``body`` ends with out of it."""
    taken: list[str] = []
    while body and body[-1].strip() and not body[-1].startswith(_CODE):
        if _RULE.match(body[-1]):
            break
        if taken and _NO_PARAGRAPH.match(body[-1]) and not body[-1].startswith("<"):
            break
        taken.insert(0, body.pop())
    return taken


def clean(lines: list[str]) -> str:
    """The text of a section: markup gone, code as it stands, paragraphs kept apart."""
    cleaned: list[str] = []
    for line in lines:
        if line.startswith(_CODE):
            cleaned.append(line[1:].rstrip())
        elif _RULE.match(line) or _DEFINITION.match(line) or _ADMONITION.match(line):
            cleaned.append("")
        else:
            cleaned.append(_clean_line(line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(cleaned)).strip("\n")


def _clean_line(line: str) -> str:
    bare = line.rstrip()
    if bare.lstrip().startswith("|") and not bare.strip("|:- \t"):
        return ""  # the rule below a table's head
    if bare.startswith(">"):
        bare = bare.lstrip("> ")
    plain = clean_inline(bare)
    return plain if plain or not bare else ""


def clean_inline(text: str) -> str:
    """Plain text of one line of Markdown: no links, images, tags, emphasis, back ticks."""
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[2].strip() if found[1] else found[0][1:])
        return f"\0{len(kept) - 1}\0"

    text = _LITERAL.sub(keep, text) if "`" in text or "\\" in text else text
    text = _plain(text)
    return (_KEPT.sub(lambda found: kept[int(found[1])], text) if kept else text).rstrip()


def _plain(text: str) -> str:
    if "[" in text:
        text = _IMAGE.sub(r"\1", text)
        text = _LINK.sub(r"\1", text)
    if "<" in text:
        text = _TAG.sub("", _BARE_LINK.sub("", text))
    if "*" in text or "_" in text:
        text = _EMPHASIS.sub(r"\2", text)
    if "{#" in text:
        text = _HEADING_ID.sub("", text)
    return unescape(text) if "&" in text else text
