"""gettext PO catalogues to (translation, original); fuzzy and untranslated entries counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.detect import decode_text
from opengte.data.readers.lines import read_whole
from opengte.errors import DataError
from opengte.records import Pair

_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d+)\])?\s*(".*")\s*$')
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"\s*$')
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a"}
_CHARSET = re.compile(rb'"Content-Type:[^"\n]*charset=([\w.:-]+)', re.IGNORECASE)


@dataclass
class Entry:
    """One message: its texts by keyword (``msgid``, ``msgid_plural``, ``msgstr``, ``msgstr1``)."""

    line: int
    fuzzy: bool = False
    texts: dict[str, str] = field(default_factory=dict)


def read_po(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (msgstr, msgid), plural forms too; the query is the translation."""
    for entry in po_entries(path, bad_rows):
        originals = [entry.texts.get("msgid", ""), entry.texts.get("msgid_plural", "")]
        if not originals[0]:
            continue  # the header
        reason = _refusal(entry)
        if reason is not None:
            bad_rows.report.skip(reason, path=path, line=entry.line)
            continue
        origin = f"{path.name}:{entry.line}"
        yield Pair(entry.texts["msgstr"], originals[0], kind="translation", origin=origin)
        plural = entry.texts.get("msgstr1", "")
        if originals[1].strip() and plural.strip():
            yield Pair(plural, originals[1], kind="translation", origin=origin)


def po_entries(path: Path, bad_rows: BadRows) -> Iterator[Entry]:
    """Yield the entries in order; obsolete ones (``#~``) are left out.

    Raises:
        DataError: an unknown line, or a string that is not closed, with its line.
    """
    entry, keyword = Entry(1), ""
    for number, line in enumerate(_lines(path), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            if entry.texts:
                yield entry
                entry, keyword = Entry(number), ""
            entry.fuzzy = entry.fuzzy or (line.startswith("#,") and "fuzzy" in line)
            continue
        found = _KEYWORD.match(line)
        if found and found[1] in ("msgctxt", "msgid") and "msgstr" in entry.texts:
            yield entry
            entry = Entry(number)
        if found:
            keyword = found[1] + (found[2] if found[2] not in (None, "0") else "")
            if not entry.texts:
                entry.line = number
        string = _STRING.match(found[3] if found else line)
        if string is None or not keyword:
            message = f"expected msgid, msgstr or a quoted text, got {line[:40]!r}"
            bad_rows.refuse("broken entry", message, path=path, line=number)
            continue
        entry.texts[keyword] = entry.texts.get(keyword, "") + _unescape(string[1])
    if entry.texts:
        yield entry


def _refusal(entry: Entry) -> str | None:
    if entry.fuzzy:
        return "fuzzy translation"
    if not entry.texts.get("msgstr", "").strip():
        return "untranslated"
    return None if entry.texts["msgid"].strip() else "blank text"


def _lines(path: Path) -> list[str]:
    content = read_whole(path)
    found = _CHARSET.search(content)
    charset = found[1].decode("ascii", "replace") if found else "utf-8"
    if charset.lower() in ("utf-8", "utf8", "charset"):
        return decode_text(content, path=path).split("\n")
    try:
        return content.decode(charset).split("\n")
    except (LookupError, UnicodeError) as error:
        raise DataError(
            f"not in the charset {charset!r} its header names: {error}", path=path
        ) from error


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 8))
    if found[2]:
        return chr(int(found[2], 16))
    return _PLAIN.get(found[3], found[3])
