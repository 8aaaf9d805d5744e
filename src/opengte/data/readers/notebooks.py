"""Jupyter notebooks to sections, and (what a cell says, the code below it)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import RowError
from opengte.data.readers.json_rows import parse_json
from opengte.data.readers.markdown import markdown_sections
from opengte.data.readers.report import ReadReport
from opengte.data.readers.sections import MIN_SECTION_WORDS, Section, num_words, section_pairs
from opengte.errors import DataError
from opengte.records import Pair

MIN_QUERY_WORDS = 4
MIN_CODE_CHARACTERS = 20


@dataclass(frozen=True)
class Cell:
    """A cell: ``markdown`` or ``code``, its text, its number from 1."""

    kind: str
    text: str
    number: int


def notebook_cells(content: bytes, *, path: str) -> list[Cell]:
    """The cells of a notebook of format 3, 4 or later.

    Raises:
        DataError: not JSON, or no notebook.
    """
    try:
        notebook = parse_json(content)
        return [cell for cell in map(_cell, *_cells(notebook)) if cell is not None]
    except (RowError, ValueError) as error:
        raise DataError(f"no notebook: {error}", path=path) from error


def notebook_pairs(
    content: bytes, *, path: str, group: str = "", report: ReadReport | None = None
) -> Iterator[Pair]:
    """Yield section pairs, and (prose of a Markdown cell, code cell right below it)."""
    report = ReadReport() if report is None else report
    cells = notebook_cells(content, path=path)
    yield from section_pairs(notebook_sections(cells), path=path, group=group, report=report)
    for above, below in itertools.pairwise(cells):
        if (above.kind, below.kind) != ("markdown", "code"):
            continue
        query = _prose(above.text)
        if num_words(query) < MIN_QUERY_WORDS or len(below.text.strip()) < MIN_CODE_CHARACTERS:
            report.skip("cell without prose or code", path=path, line=below.number)
            continue
        yield Pair(
            query,
            below.text.strip(),
            group=group,
            kind="text-code",
            origin=f"{path}:{below.number}",
        )


def notebook_sections(cells: list[Cell]) -> Iterator[Section]:
    """Sections over all Markdown cells; code between them belongs to the section it stands in."""
    heading, level, number = "", 0, 1
    texts: list[str] = []
    for cell in cells:
        if cell.kind == "code":
            texts.append(cell.text)
            continue
        for section in markdown_sections(cell.text):
            if section.heading:
                yield Section(heading, level, _joined(texts), number)
                heading, level, number, texts = section.heading, section.level, cell.number, []
            texts.append(section.text)
    yield Section(heading, level, _joined(texts), number)


def _prose(text: str) -> str:
    """The last paragraph above the code, or the heading where it stands alone."""
    sections = list(markdown_sections(text))
    last = sections[-1] if sections else Section("", 0, "", 1)
    paragraphs = [part for part in last.text.split("\n\n") if part.strip()]
    words = " ".join((paragraphs[-1] if paragraphs else "").split())
    if num_words(words) >= MIN_SECTION_WORDS or not last.heading:
        return words
    return f"{last.heading}: {words}" if words else last.heading


def _joined(texts: list[str]) -> str:
    return "\n\n".join(text.strip("\n") for text in texts if text.strip())


def _cells(notebook: Any) -> tuple[list[Any], range]:
    if not isinstance(notebook, dict):
        raise RowError("no notebook", "expected a JSON object")
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):  # format 3
        sheets = [sheet for sheet in notebook["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or []]
    if not isinstance(cells, list):
        raise RowError("no notebook", "no list 'cells' in it")
    return cells, range(1, len(cells) + 1)


def _cell(cell: Any, number: int) -> Cell | None:
    if not isinstance(cell, dict):
        return None
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    kind = cell.get("cell_type")
    if kind == "heading" and isinstance(source, str):  # format 3
        level = cell.get("level")
        kind, source = "markdown", "#" * (level if isinstance(level, int) else 1) + " " + source
    if kind not in ("markdown", "code") or not isinstance(source, str):
        return None
    return Cell(kind, source, number)


def read_notebook(path: Path, report: ReadReport | None = None) -> Iterator[Pair]:
    """Yield the pairs of one ``.ipynb`` file."""
    yield from notebook_pairs(path.read_bytes(), path=path.name, report=report)
