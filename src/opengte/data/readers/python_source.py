"""Python files: source in, functions and (query, positive) pairs out, by one ``ast.parse``.

Code is cut out by positions, so that comments and layout stay as they were written; docstrings
are cut away, those of nested functions and classes too, since they would give the answer away.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opengte.data.readers.report import ReadReport
from opengte.errors import DataError

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DefinitionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_AFTER_DOCSTRING = re.compile(rb"[ \t\f]*;?[ \t\f]*")
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
    cutter = _Cutter(text)
    parsed = ParsedSource(path)
    docstring = _docstring_node(tree)
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


class _Cutter:
    """Cuts definitions out of the source by the byte positions that ``ast`` gives."""

    def __init__(self, text: str) -> None:
        self.lines = text.encode("utf-8", "surrogatepass").split(b"\n")

    def code(self, node: FunctionNode, docstrings: list[tuple[ast.Expr, bool]]) -> str:
        """The source of ``node`` without ``docstrings``, dedented."""
        first = _first_line(node) - 1
        lines = self.lines[first : node.end_lineno]
        for docstring, is_only in reversed(docstrings):
            _cut(lines, docstring, first, is_only)
        indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
        if indent:
            size = len(indent)
            lines = [line[size:] if line.startswith(indent) else line for line in lines]
        return b"\n".join(lines).decode("utf-8", "surrogatepass").rstrip()


def _cut(lines: list[bytes], docstring: ast.Expr, first: int, is_only: bool) -> None:
    """Take one docstring out of ``lines``; put ``...`` where the body would be left empty."""
    start, end = docstring.lineno - 1 - first, (docstring.end_lineno or 0) - 1 - first
    before = lines[start][: docstring.col_offset]
    after = lines[end][docstring.end_col_offset :]
    if is_only:
        kept = before + b"..." + after
    else:
        kept = before + after[_AFTER_DOCSTRING.match(after).end() :]  # type: ignore[union-attr]
    lines[start : end + 1] = [kept] if kept.strip() else []


def _collect(
    body: list[ast.stmt], prefix: str, cutter: _Cutter, parsed: ParsedSource, depth: int = 0
) -> None:
    """Gather functions and docstrings of ``body``, of classes in it and of if/try/with blocks."""
    if depth > _MAX_DEPTH:
        return
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            _add_function(node, prefix, cutter, parsed)
        elif isinstance(node, ast.ClassDef):
            name = f"{prefix}{node.name}"
            docstring = _docstring_node(node)
            if docstring is not None:
                parsed.docstrings.append(_docstring("class", name, docstring, node.lineno))
            _collect(node.body, f"{name}.", cutter, parsed, depth + 1)
        else:
            for block in _blocks(node):
                _collect(block, prefix, cutter, parsed, depth + 1)


def _add_function(node: FunctionNode, prefix: str, cutter: _Cutter, parsed: ParsedSource) -> None:
    docstring = _docstring_node(node)
    docstrings, num_statements = _survey(node)
    text = None if docstring is None else _text_of(docstring)
    name = f"{prefix}{node.name}"
    line = _first_line(node)
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


def _survey(node: FunctionNode) -> tuple[list[tuple[ast.Expr, bool]], int]:
    """Docstrings in ``node`` in line order (with: is it the whole body?), and its statements."""
    docstrings: list[tuple[ast.Expr, bool]] = []
    num_statements = 0
    stack: list[ast.stmt] = [node]
    while stack:
        each = stack.pop()
        num_statements += 1
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            docstring = _docstring_node(each)
            body = each.body
            if docstring is not None:
                docstrings.append((docstring, len(body) == 1))
                body = body[1:]
            stack.extend(body)
        elif not isinstance(each, _SIMPLE):
            for block in _blocks(each):
                stack.extend(block)
    docstrings.sort(key=lambda entry: entry[0].lineno)
    return docstrings, num_statements - 1  # the definition itself is none of its statements


_SIMPLE = (ast.Expr, ast.Assign, ast.Return, ast.AugAssign, ast.AnnAssign, ast.Raise, ast.Pass)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statement lists inside a compound statement that is no definition."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if block:
            yield block
    for name in ("handlers", "cases"):
        for part in getattr(node, name, ()):
            yield part.body


def _docstring_node(node: ast.Module | DefinitionNode) -> ast.Expr | None:
    if not node.body:
        return None
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return first
    return None


def _docstring(kind: str, name: str, node: ast.Expr, line: int) -> Docstring:
    text = _text_of(node)
    blank = text[: len(text) - len(text.lstrip())].count("\n")
    return Docstring(kind, name, text, line, node.lineno + blank)


def _text_of(docstring: ast.Expr) -> str:
    assert isinstance(docstring.value, ast.Constant)
    return str(docstring.value.value)


def _first_line(node: FunctionNode) -> int:
    return node.decorator_list[0].lineno if node.decorator_list else node.lineno


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
