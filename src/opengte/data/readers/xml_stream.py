"""XML in bounded memory and without entities: a file in, start, end and text events out.

Expat is told to stop at any entity declaration, so that neither a "billion laughs" nor a file
on this machine can be pulled in; external document types are never fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.lines import BrokenStreamError, read_chunks

MAX_TOKEN_BYTES = 64 * 2**20
_STEP = 2**16

Event = tuple[str, str, dict[str, str], int]
"""(``start``, ``end`` or ``text``; name or text; attributes; line)."""


@dataclass
class Element:
    """A small subtree: a page, a translation unit, an item of a feed.

    Attributes:
        name: the tag, without its namespace prefix.
        attributes: by name.
        text: all text directly inside, joined.
        children: in order.
        line: of the start tag.
    """

    name: str
    attributes: dict[str, str]
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def child(self, name: str) -> Element | None:
        """The first child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def child_text(self, name: str) -> str:
        """The text of the first child of that name, ``""`` if there is none."""
        child = self.child(name)
        return "" if child is None else child.text

    @property
    def full_text(self) -> str:
        """All text inside, children's too, in order of the tags (mixed content is flattened)."""
        return self.text + "".join(child.full_text for child in self.children)


def xml_events(path: str | Path, bad_rows: BadRows) -> Iterator[Event]:
    """Yield events while the file is read; plain, gzip, bzip2 or zstd.

    Raises:
        DataError: not well-formed, an entity declared, a token over ``MAX_TOKEN_BYTES``, a
            broken stream; with the line. With ``skip`` the rest of the file is counted as lost.
    """
    events: list[Event] = []
    parser = _parser(events)
    pending = 0
    try:
        for chunk in read_chunks(path):
            for start in range(0, len(chunk), _STEP):
                parser.Parse(chunk[start : start + _STEP], False)
                pending = 0 if events else pending + _STEP
                if pending > MAX_TOKEN_BYTES:
                    raise BrokenStreamError(f"one tag is longer than {MAX_TOKEN_BYTES:,} bytes")
                yield from events
                events.clear()
        parser.Parse(b"", True)
        yield from events
    except (expat.ExpatError, BrokenStreamError, UnicodeError) as error:
        yield from events
        bad_rows.refuse(
            "broken XML",
            f"not readable XML: {error}; the rest is lost",
            path=path,
            line=parser.CurrentLineNumber,
            cause=error,
        )


def xml_elements(path: str | Path, name: str, bad_rows: BadRows) -> Iterator[Element]:
    """Yield every element called ``name`` (not nested in another such), whole."""
    stack: list[Element] = []
    for event, value, attributes, line in xml_events(path, bad_rows):
        if event == "start":
            tag = value.rpartition(":")[2]
            if stack or tag == name:
                element = Element(tag, attributes, line)
                if stack:
                    stack[-1].children.append(element)
                stack.append(element)
        elif not stack:
            continue
        elif event == "text":
            stack[-1].text += value
        else:
            element = stack.pop()
            if not stack:
                yield element


def _parser(events: list[Event]) -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def start(name: str, attributes: dict[str, str]) -> None:
        events.append(("start", name, attributes, parser.CurrentLineNumber))

    def end(name: str) -> None:
        events.append(("end", name, {}, parser.CurrentLineNumber))

    def text(content: str) -> None:
        events.append(("text", content, {}, parser.CurrentLineNumber))

    def entity(*_: object) -> int:
        raise BrokenStreamError("it declares entities, which are not expanded here")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = entity
    parser.ExternalEntityRefHandler = entity
    return parser
