"""Plain text to sections: the first line is the title if it looks like one, the rest the body."""

from __future__ import annotations

import re
from collections.abc import Iterator

from opengte.data.readers.rst import rst_sections
from opengte.data.readers.sections import Section, num_words

MAX_TITLE_CHARACTERS = 120
_UNDERLINED = re.compile(r"^\S[^\n]*\n([=\-~^])\1{2,}[ \t]*$", re.MULTILINE)


def text_sections(text: str) -> Iterator[Section]:
    """Yield one titled section, or those of a text that underlines its headings."""
    if _UNDERLINED.search(text):
        yield from rst_sections(text)
        return
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return
    title = lines[first].strip()
    stands_alone = first + 1 >= len(lines) or not lines[first + 1].strip()
    if not stands_alone or len(title) > MAX_TITLE_CHARACTERS or num_words(title) < 2:
        yield Section("", 0, text.strip("\n"), first + 1)
        return
    yield Section(title, 1, "\n".join(lines[first + 1 :]).strip("\n"), first + 1)
