"""Parallel text: TMX, Moses' two aligned files, tab-separated tables without a header."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.detect import suffixes_of
from opengte.data.readers.lines import decode_line, read_lines
from opengte.data.readers.xml_stream import xml_elements
from opengte.errors import DataError
from opengte.records import Pair

KIND = "translation"


def read_tmx(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (first variant, another variant) of every translation unit of a TMX file."""
    for unit in xml_elements(path, "tu", bad_rows):
        texts = []
        for variant in unit.children:
            segment = variant.child("seg") if variant.name == "tuv" else None
            if segment is not None:
                language = variant.attributes.get("xml:lang", variant.attributes.get("lang", ""))
                texts.append((language.lower(), " ".join(segment.full_text.split())))
        for (_, first), (_, other) in itertools.product(texts[:1], texts[1:]):
            if not first or not other:
                bad_rows.report.skip("blank text", path=path, line=unit.line)
                continue
            yield Pair(first, other, kind=KIND, origin=f"{path.name}:{unit.line}")
        if len(texts) < 2:
            bad_rows.report.skip("unit in one language", path=path, line=unit.line)


def read_moses(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (line n of this file, line n of its sibling): ``corpus.de`` and ``corpus.en``.

    Raises:
        DataError: no sibling or several; files of unequal length.
    """
    sibling = moses_sibling(path)
    both = itertools.zip_longest(
        read_lines(path, bad_rows=bad_rows), read_lines(sibling, bad_rows=bad_rows)
    )
    for here, there in both:
        if here is None or there is None:
            short, line = (path, there[0]) if there else (sibling, here[0] if here else 0)
            message = f"ends before line {line} of {path.name if there is None else sibling.name}"
            raise DataError(f"{message}; aligned files have equal numbers of lines", path=short)
        if here[0] != there[0]:
            raise DataError("a skipped line broke the alignment", path=path, line=here[0])
        yield from _texts(here[1], there[1], path, here[0], bad_rows)


def moses_sibling(path: Path) -> Path:
    """The other side: the same name with another language at its end.

    Raises:
        DataError: there is none, or more than one.
    """
    _, packed = suffixes_of(path)
    bare = path.name.removesuffix(packed) if packed else path.name
    stem, _, language = bare.rpartition(".")
    found = [
        each
        for each in sorted(path.parent.glob(f"{_escaped(stem)}.*"))
        if stem
        and each.name != path.name
        and 2 <= len(each.name[len(stem) + 1 :].removesuffix(packed)) <= 7
        and "." not in each.name[len(stem) + 1 :].removesuffix(packed)
        and each.name.endswith(packed)
    ]
    if len(found) != 1:
        names = [each.name for each in found]
        message = f"expected one file beside it in another language than {language!r}, found"
        raise DataError(f"{message} {names or 'none'}", path=path)
    return found[0]


def read_parallel_table(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (first column, second column) of a tab-separated file without a header."""
    for number, line in read_lines(path, bad_rows=bad_rows):
        if not line.strip():
            continue
        columns = line.split(b"\t")
        if len(columns) < 2:
            message = "expected two columns with a tab between them, got one"
            bad_rows.refuse("one column", message, path=path, line=number)
            continue
        yield from _texts(columns[0], columns[1], path, number, bad_rows)


def _texts(
    first: bytes, second: bytes, path: Path, number: int, bad_rows: BadRows
) -> Iterator[Pair]:
    try:
        query, positive = decode_line(first).strip(), decode_line(second).strip()
    except ValueError as error:
        bad_rows.refuse("not UTF-8", str(error), path=path, line=number, cause=error)
        return
    if query and positive:
        yield Pair(query, positive, kind=KIND, origin=f"{path.name}:{number}")
    else:
        bad_rows.report.skip("blank text", path=path, line=number)


def _escaped(stem: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in stem)
