"""Raw files to pairs and documents: which function reads which language, on how many cores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from opengte.data.readers.detect import decode_text
from opengte.data.readers.html_sections import html_charset, html_sections
from opengte.data.readers.markdown import markdown_sections
from opengte.data.readers.plain_text import text_sections
from opengte.data.readers.python_pairs import module_name, read_python_file
from opengte.data.readers.report import ReadReport
from opengte.data.readers.rst import rst_sections
from opengte.data.readers.sections import Section, section_pairs
from opengte.data.readers.tree import MAX_FILE_BYTES, SourceFile, read_tree
from opengte.errors import DataError
from opengte.records import Document, Pair

KINDS = ("docstring-code", "title-description", "heading-section")

SECTION_READERS: dict[str, Callable[[str], Iterator[Section]]] = {
    "markdown": markdown_sections,
    "rst": rst_sections,
    "html": html_sections,
    "text": text_sections,
}
"""Language to the function that cuts a text of it into sections."""

FileResult = tuple[list[Pair], list[Document], ReadReport]


def read_source(
    paths: str | Path | Iterable[str | Path],
    *,
    kinds: Sequence[str] | None = None,
    report: ReadReport | None = None,
    exclude: Sequence[str] = (),
    max_file_bytes: int = MAX_FILE_BYTES,
    workers: int = 1,
) -> Iterator[Pair]:
    """Yield the pairs that folders of code and documents hold, file by file.

    Args:
        paths: folders or files.
        kinds: only pairs of these kinds, e.g. ``docstring-code``; all by default.
        report: counts pairs by kind, and what was left out by reason.
        exclude: shell patterns of paths to leave out.
        max_file_bytes: longest file.
        workers: processes; the order of the pairs does not depend on it.

    Raises:
        DataError: a path does not exist, nothing can be read, or a kind is unknown.
    """
    wanted = frozenset(KINDS if kinds is None else kinds)
    if unknown := sorted(wanted - set(KINDS)):
        raise DataError(f"unknown kind {unknown[0]!r}; it is one of {', '.join(KINDS)}")
    report = ReadReport() if report is None else report
    files = read_tree(paths, report=report, exclude=exclude, max_file_bytes=max_file_bytes)
    for pairs, _, file_report in _read_files(files, workers):
        report.merge(file_report)
        for pair in pairs:
            if pair.kind in wanted:
                report.count(pair.kind)
                yield pair


def read_source_documents(
    paths: str | Path | Iterable[str | Path],
    *,
    report: ReadReport | None = None,
    exclude: Sequence[str] = (),
    max_file_bytes: int = MAX_FILE_BYTES,
    workers: int = 1,
) -> Iterator[Document]:
    """Yield what can be found in folders of code and documents: functions and sections.

    An id is ``path#name`` for a function, ``path#L12`` for a section at line 12.
    """
    report = ReadReport() if report is None else report
    files = read_tree(paths, report=report, exclude=exclude, max_file_bytes=max_file_bytes)
    for _, documents, file_report in _read_files(files, workers):
        report.merge(file_report)
        report.count("documents", len(documents))
        yield from documents


def _read_files(files: Iterator[SourceFile], workers: int) -> Iterator[FileResult]:
    if workers <= 1:
        yield from map(read_file, files)
        return
    with ProcessPoolExecutor(workers) as pool:
        # Bounded: at most 16 chunks a worker wait, whatever the size of the tree.
        while block := list(itertools.islice(files, 256 * workers)):
            yield from pool.map(read_file, block, chunksize=16)


def read_file(file: SourceFile) -> FileResult:
    """Pairs and documents of one file; a picklable job that never raises for bad content."""
    if file.language == "python":
        return _read_python(file)
    report = ReadReport()
    try:
        sections = list(SECTION_READERS[file.language](_text(file)))
    except DataError as error:
        report.skip("not UTF-8", path=file.name, line=error.line, detail=error.message)
        return [], [], report
    except OSError as error:
        report.skip("cannot be read", path=file.name, detail=str(error))
        return [], [], report
    title = "" if file.language in ("markdown", "rst", "html") else module_name(file.name)
    pairs = list(section_pairs(sections, path=file.name, group=file.group, report=report))
    return pairs, _section_documents(sections, file, title), report


def _read_python(file: SourceFile) -> FileResult:
    parsed = read_python_file(file.path, name=file.name, group=file.group)
    report = replace(parsed.report, read=type(parsed.report.read)())
    documents = [
        Document(
            id=f"{file.name}#{function.qualified_name}:{function.line}",
            text=function.code,
            title=function.qualified_name,
            group=file.group,
            kind="function",
            origin=f"{file.name}:{function.line}",
        )
        for function in parsed.functions
    ]
    return parsed.pairs, documents, report


def _section_documents(sections: list[Section], file: SourceFile, title: str) -> list[Document]:
    return [
        Document(
            id=f"{file.name}#L{section.line}",
            text=section.text,
            title=section.heading or title,
            group=file.group,
            kind="section",
            origin=f"{file.name}:{section.line}",
        )
        for section in sections
        if section.text.strip()
    ]


def _text(file: SourceFile) -> str:
    content = file.path.read_bytes()
    charset = html_charset(content) if file.language == "html" else None
    if charset and charset not in ("utf-8", "utf8"):
        try:
            return content.decode(charset)
        except (LookupError, UnicodeDecodeError):
            pass
    return decode_text(content, path=file.name)
