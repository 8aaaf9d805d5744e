"""BibTeX to (title, abstract) and (citation, reference): a bounded parser of its own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.detect import decode_text
from opengte.data.readers.lines import read_whole
from opengte.records import Pair

_ENTRY = re.compile(r"@\s*([A-Za-z]+)\s*([{(])")
_NAME = re.compile(r"\s*([^\s=,{}()\"#%']+)\s*=\s*")
_WORD = re.compile(r"[^\s,{}()\"#]+")
_MARKS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", '"': "\u0308", "~": "\u0303"}
_MARKS |= {"=": "\u0304", ".": "\u0307", "u": "\u0306", "v": "\u030c", "H": "\u030b"}
_MARKS |= {"c": "\u0327", "k": "\u0328", "r": "\u030a"}
_LETTERS = {"ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å"}
_LETTERS |= {"o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "i": "ı", "j": "ȷ"}
_ACCENT = re.compile(r"\\([`'^\"~=.]|[uvHckr](?![a-zA-Z]))\s*\{?(\\?[a-zA-Z])\}?")
_LETTER = re.compile(r"\\(ss|ae|AE|oe|OE|aa|AA|o|O|l|L|i|j)(?![a-zA-Z])\s*(?:\{\})?")
_COMMAND = re.compile(r"\\[a-zA-Z]+\*?\s*|\\(?=[%&$#_{}])")
VENUES = ("journal", "booktitle", "publisher", "school", "institution", "howpublished", "series")


@dataclass(frozen=True)
class BibEntry:
    """One entry: its type and key in lower case, its fields as plain text, its line."""

    kind: str
    key: str
    fields: dict[str, str]
    line: int


def read_bibtex(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (title, abstract) where there is one, and ("Knuth 1984", "title, venue").

    Raises:
        DataError: an entry that is not closed, with its line.
    """
    for entry in bibtex_entries(path, bad_rows):
        title = entry.fields.get("title", "")
        if not title:
            bad_rows.report.skip("entry without a title", path=path, line=entry.line)
            continue
        origin = f"{path.name}:{entry.line}"
        abstract = entry.fields.get("abstract", "")
        if abstract:
            yield Pair(title, abstract, kind="title-abstract", group=entry.key, origin=origin)
        citation = _citation(entry)
        if citation:
            venue = next((entry.fields[name] for name in VENUES if entry.fields.get(name)), "")
            stop = "" if title.endswith((".", "?", "!")) else "."
            reference = f"{title}{stop} {venue}" if venue else title
            yield Pair(
                citation, reference, kind="citation-reference", group=entry.key, origin=origin
            )
        if not abstract and not citation:
            bad_rows.report.skip("entry without author and year", path=path, line=entry.line)


def bibtex_entries(path: Path, bad_rows: BadRows) -> Iterator[BibEntry]:
    """Yield the entries; ``@string`` is put in, ``@comment`` and ``@preamble`` are left out."""
    text = decode_text(read_whole(path), path=path)
    strings: dict[str, str] = {}
    position, line, counted = 0, 1, 0
    while (found := _ENTRY.search(text, position)) is not None:
        line += text.count("\n", counted, found.start())
        counted = found.start()
        kind = found[1].lower()
        position = found.end()
        if kind == "comment":
            continue
        try:
            key, fields, position = _body(text, position, kind, strings)
        except ValueError as error:
            bad_rows.refuse("broken entry", f"{error}", path=path, line=line, cause=error)
            continue
        if kind == "string":
            strings.update(fields)
        elif kind != "preamble":
            plain = {name: plain_latex(value) for name, value in fields.items()}
            yield BibEntry(kind, key, plain, line)


def plain_latex(text: str) -> str:
    r"""Accents as letters (``{\"o}`` gives ö), braces and commands gone, white space single."""
    if "\\" in text:
        text = _ACCENT.sub(_accented, text)
        text = _LETTER.sub(lambda found: _LETTERS[found[1]], text)
        text = _COMMAND.sub("", text)
    return " ".join(text.replace("{", "").replace("}", "").replace("~", " ").split())


def _accented(found: re.Match[str]) -> str:
    letter = {"\\i": "i", "\\j": "j"}.get(found[2], found[2].lstrip("\\"))
    return unicodedata.normalize("NFC", letter + _MARKS[found[1]])


def _body(
    text: str, position: int, kind: str, strings: dict[str, str]
) -> tuple[str, dict[str, str], int]:
    """(key, raw fields, position behind the entry)."""
    key = ""
    fields: dict[str, str] = {}
    if kind not in ("string", "preamble"):
        end = re.compile(r"[,})]").search(text, position)
        if end is None:
            raise ValueError("an entry that is not closed")
        key = text[position : end.start()].strip()
        position = end.end() - 1
    while True:
        position = _skip(text, position, " \t\r\n,")
        if position >= len(text):
            raise ValueError("an entry that is not closed")
        if text[position] in "})":
            return key, fields, position + 1
        name = _NAME.match(text, position)
        if name is None:
            if kind == "preamble":
                _, position = _value(text, position, strings)
                continue
            shown = text[position : position + 20].split("\n")[0]
            raise ValueError(f"expected a field and '=', got {shown!r}")
        fields[name[1].lower()], position = _value(text, name.end(), strings)


def _value(text: str, position: int, strings: dict[str, str]) -> tuple[str, int]:
    """A braced, quoted or bare value, or several joined by ``#``."""
    parts: list[str] = []
    while True:
        if text[position : position + 1] in ("{", '"'):
            end = _closing(text, position)
            parts.append(text[position + 1 : end])
            position = end + 1
        else:
            word = _WORD.match(text, position)
            if word is None:
                raise ValueError("a field without a value")
            parts.append(strings.get(word[0].lower(), word[0]))
            position = word.end()
        after = _skip(text, position, " \t\r\n")
        if text[after : after + 1] != "#":
            return "".join(parts), position
        position = _skip(text, after + 1, " \t\r\n")


def _closing(text: str, position: int) -> int:
    """Where the brace or quote that opens at ``position`` closes; braces inside nest."""
    quoted = text[position] == '"'
    depth = 0
    for found in re.compile(r'[{}"]|\\[{}"]').finditer(text, position + 1):
        mark = found[0]
        if mark == "{":
            depth += 1
        elif mark == "}" and depth:
            depth -= 1
        elif depth == 0 and mark == ('"' if quoted else "}"):
            return found.start()
    raise ValueError("a value that is not closed")


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _citation(entry: BibEntry) -> str:
    """``Knuth 1984``, ``Knuth and Plass 1981``, ``Knuth et al. 1990``."""
    people = entry.fields.get("author") or entry.fields.get("editor") or ""
    year = entry.fields.get("year") or entry.fields.get("date", "")[:4]
    if not people or not year:
        return ""
    names = [_family(person) for person in re.split(r"\s+and\s+", people) if person.strip()]
    if len(names) > 2:
        return f"{names[0]} et al. {year}"
    return f"{' and '.join(names)} {year}"


def _family(person: str) -> str:
    return person.split(",")[0].strip() if "," in person else person.split()[-1]
