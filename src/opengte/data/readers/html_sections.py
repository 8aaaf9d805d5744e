"""HTML to sections with the standard library: headings h1 to h6, the title, the readable text.

The ``[html]`` extra's trafilatura finds the main text of a wild web page better (``html_page``);
this one needs nothing and reads documentation, where every heading counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from opengte.data.readers.sections import Section
from opengte.data.readers.word_set import word_set

_SILENT = word_set(
    "script style nav header footer aside noscript template svg form button select iframe "
    "head object canvas"
)
_BLOCKS = word_set(
    "p div section article main li ul ol dl dt dd table tr pre blockquote br hr figure "
    "figcaption details summary body h1 h2 h3 h4 h5 h6"
)
_VOID = word_set("area base br col embed hr img input link meta source track wbr param")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CHARSET = re.compile(rb"<meta[^>]+charset=[\"']?([\w-]+)", re.IGNORECASE)


def html_sections(text: str) -> Iterator[Section]:
    """Yield the sections; the page's ``<title>`` heads what stands before the first heading."""
    scanner = _Scanner()
    scanner.feed(text)
    scanner.close()
    scanner.finish_section()
    yield from scanner.sections


def html_charset(content: bytes) -> str | None:
    """The encoding that a ``<meta charset>`` in the first kilobytes names."""
    found = _CHARSET.search(content[:4096])
    return None if found is None else found[1].decode("ascii", "replace").lower()


class _Scanner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[Section] = []
        self.title = ""
        self._heading = ""
        self._level = 0
        self._line = 1
        self._pieces: list[str] = []
        self._heading_tag = ""
        self._heading_pieces: list[str] = []
        self._silent: list[str] = []
        self._in_title = False
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self.title:
            self._in_title = True
        elif tag == "body":
            self._silent.clear()  # a head that was never closed
        elif tag in _SILENT:
            self._silent.append(tag)
        elif self._silent:
            return
        elif tag in _HEADINGS and not self._heading_tag:
            self._heading_tag, self._heading_pieces = tag, []
        elif tag == "a" and dict(attrs).get("class") == "headerlink":
            self._silent.append("a")
        elif tag == "pre":
            self._pre += 1
            self._pieces.append("\n\n")
        elif tag in _BLOCKS:
            self._pieces.append("\n" if tag in ("br", "li", "tr", "dt", "dd") else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif self._silent:
            if tag in self._silent:
                del self._silent[self._silent.index(tag) :]
        elif tag == self._heading_tag:
            self._heading_tag = ""
            self.finish_section()
            heading = " ".join("".join(self._heading_pieces).split()).strip(" ¶#")
            self._heading, self._level = heading, _HEADINGS[tag]
            self._line = self.getpos()[0]
        elif tag == "pre":
            self._pre = max(0, self._pre - 1)
            self._pieces.append("\n\n")
        elif tag in _BLOCKS and tag not in _VOID:
            self._pieces.append("\n" if tag in ("li", "tr", "dt", "dd") else "\n\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif self._silent:
            return
        elif self._heading_tag:
            self._heading_pieces.append(data)
        else:
            self._pieces.append(data if self._pre else re.sub(r"\s+", " ", data))

    def finish_section(self) -> None:
        """Close the section that is open, if anything stands in it."""
        if self._heading_tag:  # a heading that was never closed
            self._pieces.extend(self._heading_pieces)
            self._heading_pieces = []
        lines = [line.rstrip() for line in "".join(self._pieces).split("\n")]
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(_single_spaces(line) for line in lines))
        heading, level = self._heading, self._level
        if not heading and self.title.strip():
            heading, level = " ".join(self.title.split()), 1
        if text.strip() or heading:
            self.sections.append(Section(heading, level, text.strip("\n "), self._line))
        self._pieces = []


def _single_spaces(line: str) -> str:
    return line[1:] if line.startswith(" ") and not line.startswith("  ") else line
