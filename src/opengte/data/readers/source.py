"""Raw files to pairs and documents: which function reads which language, on how many cores."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from opengte.data.readers.code_comments import GRAMMARS, code_pairs, read_code_functions
from opengte.data.readers.detect import decode_text
from opengte.data.readers.docx import docx_sections
from opengte.data.readers.html_sections import html_charset, html_sections
from opengte.data.readers.markdown import markdown_sections
from opengte.data.readers.notebooks import notebook_cells, notebook_pairs, notebook_sections
from opengte.data.readers.pdf import pdf_sections
from opengte.data.readers.plain_text import text_sections
from opengte.data.readers.python_pairs import module_name, read_python_file
from opengte.data.readers.report import ReadReport
from opengte.data.readers.rst import rst_sections
from opengte.data.readers.sections import Section, section_pairs
from opengte.data.readers.tree import MAX_FILE_BYTES, SourceFile, read_tree
from opengte.errors import DataError, MissingExtraError
from opengte.records import Document, Pair

KINDS = ("docstring-code", "title-description", "heading-section", "text-code")

SECTION_READERS: dict[str, Callable[[str], Iterator[Section]]] = {
    "markdown": markdown_sections,
    "rst": rst_sections,
    "html": html_sections,
    "text": text_sections,
}
"""Language to the function that cuts a text of it into sections."""

FILE_SECTION_READERS: dict[str, Callable[..., Iterator[Section]]] = {
    "pdf": pdf_sections,
    "docx": docx_sections,
}
"""The same for languages whose files are no text: (content, path=name) to sections."""

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
    # spawn: the fork of a process whose threads run may never wake
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        # Bounded: at most 16 chunks a worker wait, whatever the size of the tree.
        while block := list(itertools.islice(files, 256 * workers)):
            yield from pool.map(read_file, block, chunksize=16)


def read_file(file: SourceFile) -> FileResult:
    """Pairs and documents of one file; a picklable job that never raises for bad content."""
    report = ReadReport()
    try:
        pairs, documents = _reader_of(file.language)(file, report)
    except MissingExtraError as error:
        report.skip(f"needs an extra: {error.message}", path=file.name)
        return [], [], report
    except DataError as error:
        reason = "not UTF-8" if "UTF-8" in error.message else "cannot be read"
        report.skip(reason, path=file.name, line=error.line, detail=error.message)
        return [], [], report
    except OSError as error:
        report.skip("cannot be read", path=file.name, detail=str(error))
        return [], [], report
    return pairs, documents, report


FileReader = Callable[[SourceFile, ReadReport], tuple[list[Pair], list[Document]]]


def _reader_of(language: str) -> FileReader:
    if language == "python":
        return _read_python
    if language == "notebook":
        return _read_notebook
    return _read_code if language in GRAMMARS else _read_sections


def _read_sections(file: SourceFile, report: ReadReport) -> tuple[list[Pair], list[Document]]:
    if file.language in FILE_SECTION_READERS:
        content = file.path.read_bytes()
        sections = list(FILE_SECTION_READERS[file.language](content, path=file.name))
    else:
        sections = list(SECTION_READERS[file.language](_text(file)))
    pairs = list(section_pairs(sections, path=file.name, group=file.group, report=report))
    title = "" if file.language in ("markdown", "rst", "html") else module_name(file.name)
    return pairs, _section_documents(sections, file, title)


def _read_notebook(file: SourceFile, report: ReadReport) -> tuple[list[Pair], list[Document]]:
    content = file.path.read_bytes()
    pairs = list(notebook_pairs(content, path=file.name, group=file.group, report=report))
    sections = list(notebook_sections(notebook_cells(content, path=file.name)))
    return pairs, _section_documents(sections, file, module_name(file.name))


def _read_code(file: SourceFile, report: ReadReport) -> tuple[list[Pair], list[Document]]:
    content = file.path.read_bytes()
    functions = read_code_functions(content, file.language, path=file.name)
    pairs = list(code_pairs(functions, path=file.name, group=file.group, report=report))
    return pairs, [
        _function_document(function.name, function.code, function.line, file)
        for function in functions
    ]


def _read_python(file: SourceFile, report: ReadReport) -> tuple[list[Pair], list[Document]]:
    parsed = read_python_file(file.path, name=file.name, group=file.group)
    parsed.report.read.clear()  # pairs are counted when they are taken
    report.merge(parsed.report)
    return parsed.pairs, [
        _function_document(function.qualified_name, function.code, function.line, file)
        for function in parsed.functions
    ]


def _function_document(name: str, code: str, line: int, file: SourceFile) -> Document:
    return Document(
        id=f"{file.name}#{name}:{line}",
        text=code,
        title=name,
        group=file.group,
        kind="function",
        origin=f"{file.name}:{line}",
    )


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
