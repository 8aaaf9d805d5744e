"""Python files: source in, functions and (query, positive) pairs out, by one ``ast.parse``.

Code is cut out by positions, so that comments and layout stay as they were written; docstrings
are cut away, those of nested functions and classes too, since they would give the answer away.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opengte.data.readers.code_cutter import (
    Cutter,
    FunctionNode,
    blocks,
    docstring_node,
    first_line,
    survey,
)
from opengte.data.readers.report import ReadReport
from opengte.errors import DataError

_MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method, documented or not.

    Attributes:
        name: as defined.
        qualified_name: with its classes in front, ``Decoder.decode``.
        docstring: as written, or None.
        code: decorators, signature and body without docstrings, dedented; it parses.
        num_statements: statements of the body, nested ones counted, docstrings not.
        is_stub: whether the body does nothing but pass, ``...``, return without a value or
            raise NotImplementedError.
        path: the file, as it was named to the reader.
        line: of ``def`` or the first decorator, from 1.
    """

    name: str
    qualified_name: str
    docstring: str | None
    code: str
    num_statements: int
    is_stub: bool
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Docstring:
    """A module's, class's or function's docstring and whose it is.

    Attributes:
        kind: ``module``, ``class`` or ``function``.
        qualified_name: ``""`` for a module.
        text: as written.
        line: of the definition, from 1.
        text_line: where the text itself begins, blank lines in front of it skipped.
    """

    kind: str
    qualified_name: str
    text: str
    line: int
    text_line: int


@dataclass
class ParsedSource:
    """What one file holds, in the order of its lines."""

    path: str
    functions: list[Function] = field(default_factory=list)
    docstrings: list[Docstring] = field(default_factory=list)


def read_functions(
    path: str | Path, *, source: str | bytes | None = None, report: ReadReport | None = None
) -> Iterator[Function]:
    """Yield every function and method of a file that is not nested in another function.

    A nested function is part of the code of the one around it.

    Args:
        path: the file; only a name when ``source`` is given.
        source: the content, if it is at hand.
        report: counts a file that does not parse; without one it is an error.
    """
    try:
        parsed = parse_python(source if source is not None else _read(path), path=str(path))
    except DataError as error:
        if report is None:
            raise
        report.skip("does not parse", path=path, line=error.line, detail=error.message)
        return
    yield from parsed.functions


def parse_python(source: str | bytes, *, path: str = "<source>") -> ParsedSource:
    """Parse one file and cut out its functions.

    Raises:
        DataError: it is not valid Python of this interpreter's version.
    """
    text = source if isinstance(source, str) else decode_python(source, path=path)
    text = text.removeprefix("\ufeff")
    tree = _parse(text, path)
    cutter = Cutter(text)
    parsed = ParsedSource(path)
    docstring = docstring_node(tree)
    if docstring is not None:
        parsed.docstrings.append(_docstring("module", "", docstring, 1))
    _collect(tree.body, "", cutter, parsed)
    return parsed


def decode_python(source: bytes, *, path: str) -> str:
    """Decode by byte order mark or coding comment, UTF-8 by default, as the interpreter does.

    Raises:
        DataError: an unknown encoding, or bytes that are not of it.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        text = source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise DataError(f"cannot be decoded: {error}", path=path) from error
    # ast numbers lines by these three ends, as the cutter below must.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", path=path) from error


def _parse(text: str, path: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        message = f"not valid Python: {error.msg}"
        raise DataError(message, path=path, line=error.lineno) from error
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise DataError(f"not valid Python: {error}", path=path) from error


def _collect(
    body: list[ast.stmt], prefix: str, cutter: Cutter, parsed: ParsedSource, depth: int = 0
) -> None:
    """Gather functions and docstrings of ``body``, of classes in it and of if/try/with blocks."""
    if depth > _MAX_DEPTH:
        return
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            _add_function(node, prefix, cutter, parsed)
        elif isinstance(node, ast.ClassDef):
            name = f"{prefix}{node.name}"
            docstring = docstring_node(node)
            if docstring is not None:
                parsed.docstrings.append(_docstring("class", name, docstring, node.lineno))
            _collect(node.body, f"{name}.", cutter, parsed, depth + 1)
        else:
            for block in blocks(node):
                _collect(block, prefix, cutter, parsed, depth + 1)


def _add_function(node: FunctionNode, prefix: str, cutter: Cutter, parsed: ParsedSource) -> None:
    docstring = docstring_node(node)
    docstrings, num_statements = survey(node)
    text = None if docstring is None else _text_of(docstring)
    name = f"{prefix}{node.name}"
    line = first_line(node)
    body = node.body[1:] if docstring is not None else node.body
    parsed.functions.append(
        Function(
            node.name,
            name,
            text,
            cutter.code(node, docstrings),
            num_statements,
            _is_stub(body),
            parsed.path,
            line,
        )
    )
    if docstring is not None:
        parsed.docstrings.append(_docstring("function", name, docstring, line))


def _docstring(kind: str, name: str, node: ast.Expr, line: int) -> Docstring:
    text = _text_of(node)
    blank = text[: len(text) - len(text.lstrip())].count("\n")
    return Docstring(kind, name, text, line, node.lineno + blank)


def _text_of(docstring: ast.Expr) -> str:
    assert isinstance(docstring.value, ast.Constant)
    return str(docstring.value.value)


def _is_stub(body: list[ast.stmt]) -> bool:
    return all(_does_nothing(node) for node in body)


def _does_nothing(node: ast.stmt) -> bool:
    if isinstance(node, ast.Pass):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Raise):
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return isinstance(node, ast.Return) and node.value is None
