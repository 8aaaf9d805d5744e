"""Python files to pairs: (docstring, code), (name, description), (heading, section)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import cleandoc
from pathlib import Path

from opengte.data.readers.docstrings import (
    PARAMETER_SECTIONS,
    docstring_sections,
    plain_prose,
    query_of,
    triviality,
)
from opengte.data.readers.identifiers import words_of
from opengte.data.readers.python_source import Docstring, Function, parse_python
from opengte.data.readers.report import ReadReport
from opengte.data.readers.sections import num_words, refusal
from opengte.errors import DataError
from opengte.records import Pair

MIN_DESCRIPTION_WORDS = 6


@dataclass
class PythonFile:
    """What one Python file gives.

    Attributes:
        path: as it was named.
        functions: every function, documented or not, for a retrieval pool.
        pairs: of the three kinds.
        report: what was left out, and why.
    """

    path: str
    functions: list[Function] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    report: ReadReport = field(default_factory=ReadReport)


def read_python_file(
    path: str | Path,
    *,
    name: str | None = None,
    group: str = "",
    source: str | bytes | None = None,
) -> PythonFile:
    """Read one file with a single parse; a picklable job for a process pool.

    Args:
        path: the file.
        name: how pairs, functions and messages call it; its path by default.
        group: what is held out as a whole, e.g. the package.
        source: the content, if it is at hand.

    Returns:
        An empty ``PythonFile`` whose report says why, if the file cannot be read or parsed.
    """
    shown = str(path) if name is None else name
    result = PythonFile(shown)
    try:
        content = Path(path).read_bytes() if source is None else source
        parsed = parse_python(content, path=shown)
    except DataError as error:
        result.report.skip("does not parse", path=shown, line=error.line, detail=error.message)
        return result
    except OSError as error:
        result.report.skip("cannot be read", path=shown, detail=str(error))
        return result
    result.functions = parsed.functions
    result.pairs.extend(docstring_code_pairs(parsed.functions, group=group, report=result.report))
    module = module_name(shown)
    for docstring in parsed.docstrings:
        result.pairs.extend(_description_pairs(docstring, module, shown, group, result.report))
        result.pairs.extend(_section_pairs(docstring, module, shown, group, result.report))
    for pair in result.pairs:
        result.report.count(pair.kind)
    result.report.count("functions", len(result.functions))
    return result


def docstring_code_pairs(
    functions: list[Function], *, group: str = "", report: ReadReport | None = None
) -> Iterator[Pair]:
    """(first paragraph of the docstring, function without its docstring)."""
    report = ReadReport() if report is None else report
    for function in functions:
        if function.docstring is None:
            continue
        query = query_of(function.docstring)
        reason = "stub function" if function.is_stub else triviality(query)
        if reason is not None:
            report.skip(reason, path=function.path, line=function.line, detail=query[:60])
            continue
        yield Pair(
            query,
            function.code,
            group=group,
            kind="docstring-code",
            origin=f"{function.path}:{function.line}",
        )


def module_name(path: str) -> str:
    """Words for a module: the file's stem, or the folder's for ``__init__.py``."""
    file = Path(path)
    return file.parent.name if file.stem in ("__init__", "__main__") else file.stem


def _description_pairs(
    docstring: Docstring, module: str, path: str, group: str, report: ReadReport
) -> Iterator[Pair]:
    """(title, description) of a module or class: its name in words, its prose."""
    if docstring.kind == "function":
        return
    description = plain_prose(_prose(docstring.text))
    if num_words(description) < MIN_DESCRIPTION_WORDS:
        reason = f"description under {MIN_DESCRIPTION_WORDS} words"
        report.skip(reason, path=path, line=docstring.line, detail=description[:60])
        return
    yield Pair(
        _title(docstring, module),
        description,
        group=group,
        kind="title-description",
        origin=f"{path}:{docstring.line}",
    )


def _section_pairs(
    docstring: Docstring, module: str, path: str, group: str, report: ReadReport
) -> Iterator[Pair]:
    """(name and heading, section) for the sections of a long docstring that hold prose."""
    for heading, line, text in docstring_sections(docstring.text):
        if not heading or heading.lower() in PARAMETER_SECTIONS:
            continue
        text = cleandoc(text) if text.startswith(" ") else text
        reason = refusal(heading, text)
        if reason is not None:
            report.skip(reason, path=path, line=docstring.text_line + line, detail=heading[:60])
            continue
        yield Pair(
            f"{_title(docstring, module)}: {heading}",
            text,
            group=group,
            kind="heading-section",
            origin=f"{path}:{docstring.text_line + line}",
        )


def _prose(docstring: str) -> str:
    """The first part that says enough and lists no parameters, without doctests."""
    for heading, _, text in docstring_sections(docstring):
        if heading.lower() in PARAMETER_SECTIONS:
            continue
        lines = [line for line in text.split("\n") if not line.lstrip().startswith((">>>", "... "))]
        prose = "\n".join(lines)
        if num_words(prose) >= MIN_DESCRIPTION_WORDS:
            return prose
    return ""


def _title(docstring: Docstring, module: str) -> str:
    """``ordered dict (collections)`` for a class or function, ``collections`` for a module."""
    if docstring.kind == "module":
        return words_of(module) or module
    return f"{words_of(docstring.qualified_name) or docstring.qualified_name} ({words_of(module)})"
