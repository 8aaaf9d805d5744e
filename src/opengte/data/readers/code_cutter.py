"""Cuts functions out of Python source by the positions that ``ast`` gives, docstrings left out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DefinitionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_AFTER_DOCSTRING = re.compile(rb"[ \t\f]*;?[ \t\f]*")


class Cutter:
    """Cuts definitions out of the source by the byte positions that ``ast`` gives."""

    def __init__(self, text: str) -> None:
        self.lines = text.encode("utf-8", "surrogatepass").split(b"\n")

    def code(self, node: FunctionNode, docstrings: list[tuple[ast.Expr, bool]]) -> str:
        """The source of ``node`` without ``docstrings``, dedented."""
        first = first_line(node) - 1
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


def survey(node: FunctionNode) -> tuple[list[tuple[ast.Expr, bool]], int]:
    """Docstrings in ``node`` in line order (with: is it the whole body?), and its statements."""
    docstrings: list[tuple[ast.Expr, bool]] = []
    num_statements = 0
    stack: list[ast.stmt] = [node]
    while stack:
        each = stack.pop()
        num_statements += 1
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            docstring = docstring_node(each)
            body = each.body
            if docstring is not None:
                docstrings.append((docstring, len(body) == 1))
                body = body[1:]
            stack.extend(body)
        elif not isinstance(each, _SIMPLE):
            for block in blocks(each):
                stack.extend(block)
    docstrings.sort(key=lambda entry: entry[0].lineno)
    return docstrings, num_statements - 1  # the definition itself is none of its statements


_SIMPLE = (ast.Expr, ast.Assign, ast.Return, ast.AugAssign, ast.AnnAssign, ast.Raise, ast.Pass)


def blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statement lists inside a compound statement that is no definition."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if block:
            yield block
    for name in ("handlers", "cases"):
        for part in getattr(node, name, ()):
            yield part.body


def docstring_node(node: ast.Module | DefinitionNode) -> ast.Expr | None:
    """The statement that is the docstring of ``node``, if it has one."""
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


def first_line(node: FunctionNode) -> int:
    """The line a definition begins at, its decorators included."""
    return node.decorator_list[0].lineno if node.decorator_list else node.lineno
