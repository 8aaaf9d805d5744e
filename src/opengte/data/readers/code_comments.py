"""Source code of eight languages to (comment, function), by tree-sitter's grammars.

The grammars come as wheels, one package a language (extra ``code``); nothing is downloaded.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opengte.data.readers.docstrings import triviality
from opengte.data.readers.report import ReadReport
from opengte.data.readers.word_set import word_set
from opengte.errors import DataError, MissingExtraError
from opengte.records import Pair

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

GRAMMARS = {
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "php": ("tree_sitter_php", "language_php"),
    "ruby": ("tree_sitter_ruby", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
}
"""Language to (package, function that gives the grammar)."""

FUNCTIONS = word_set(
    "function_definition function_declaration method_declaration constructor_declaration "
    "method_definition generator_function_declaration method singleton_method function_item "
    "function_signature_item template_declaration method_signature"
)
"""Node types that define a function; a template counts if a function stands in it."""

WRAPPERS = word_set("export_statement decorated_definition template_declaration")
_COMMENTS = frozenset({"comment", "line_comment", "block_comment"})
_BETWEEN = frozenset({"attribute_item", "attribute_list", "decorator"})
_BODY = frozenset({"block", "statement_block", "compound_statement", "constructor_body"})

_MARKS = re.compile(r"^\s*(?:/\*+!?<?|\*+/|\*{1,2}(?!\*)|//[/!]?<?|#+)[ \t]?|\s*\*+/\s*$")
_END_OF_PROSE = re.compile(
    r"\s*(?:[@\\](?:param|return|returns|throws|exception|see|since|example|author|static|"
    r"category|memberOf|type|template|tparam|sa|par|link|code|private|internal|deprecated|"
    r"api|access)\b|"
    r"<(?:pre|ul|ol|table|dl)\b|={3,}|-{3,}|```|# +\w+|\w+\s*::\s*$|"
    r"(?:Args|Returns|Example)s?:\s*$)"
)
_INLINE = re.compile(r"\{@(?:link|code|linkplain|literal|value)\s+([^}]*)\}")
_DOXYGEN = re.compile(r"[@\\](?:brief|short|details|fn|desc|description)\s+")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_LINK = re.compile(r"\[`?([^\]`]+)`?\](?:\([^)]*\)|\[[^\]]*\])?")
_DIRECTIVE = re.compile(r"(?:eslint|tslint|prettier|noinspection|go:|nolint|istanbul|@ts-|c8 )")
_LICENCE = re.compile(r"copyright|licen[cs]e|spdx", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CodeFunction:
    """A function as written, with the comment above it.

    Attributes:
        name: as defined, ``""`` where the grammar names none.
        comment: the comment's text without its marks, or None.
        code: the definition with its decorators, without the comment, dedented.
        line: of the definition, from 1.
        num_lines: of the code that are not blank.
    """

    name: str
    comment: str | None
    code: str
    line: int
    num_lines: int


def code_pairs(
    functions: Iterable[CodeFunction],
    *,
    path: str,
    group: str = "",
    report: ReadReport | None = None,
) -> Iterator[Pair]:
    """Yield (first paragraph of the comment, function) for the commented functions."""
    report = ReadReport() if report is None else report
    for function in functions:
        if function.comment is None:
            continue
        query = comment_query(function.comment)
        reason = triviality(query)
        if reason is None and function.num_lines < 2:
            reason = "declaration without a body"
        if reason is None and (_DIRECTIVE.match(query) or _LICENCE.search(query)):
            reason = "comment for a tool or a licence"
        if reason is not None:
            report.skip(
                reason.replace("docstring", "comment"),
                path=path,
                line=function.line,
                detail=query[:60],
            )
            continue
        yield Pair(
            query,
            function.code,
            group=group,
            kind="docstring-code",
            origin=f"{path}:{function.line}",
        )


def read_code_functions(content: bytes, language: str, *, path: str) -> list[CodeFunction]:
    """Every function outside functions, in the order of the file.

    Raises:
        DataError: not UTF-8.
        MissingExtraError: the language's grammar is not installed.
    """
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start} is not valid UTF-8", path=path) from error
    tree = parser_of(language).parse(content)
    found: list[CodeFunction] = []
    stack = [tree.root_node]
    while stack:
        node = stack.pop()
        if is_function(node):
            found.append(_function(node, content))
        else:
            stack.extend(reversed(node.children))
    return found


@functools.cache
def parser_of(language: str) -> Parser:
    """The parser of a language of ``GRAMMARS``."""
    package, name = GRAMMARS[language]
    try:
        from tree_sitter import Language, Parser

        grammar = importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(package.replace("_", "-"), extra="code") from error
    return Parser(Language(getattr(grammar, name)()))


def comment_query(comment: str) -> str:
    """The first paragraph as one line, without tags of documentation tools."""
    lines: list[str] = []
    for line in comment.split("\n"):
        bare = _DOXYGEN.sub("", line).strip()
        if _END_OF_PROSE.match(bare) or (not bare and lines):
            break
        if bare:
            lines.append(bare)
    text = _INLINE.sub(r"\1", " ".join(lines))
    text = _LINK.sub(r"\1", _TAG.sub("", text)).replace("`", "")
    return " ".join(text.split())


def comment_text(comment: str) -> str:
    """The words of a comment: ``/** ... */``, ``//``, ``///``, ``#`` taken away line by line."""
    return "\n".join(_MARKS.sub("", _MARKS.sub("", line)) for line in comment.split("\n")).strip()


def is_function(node: Node) -> bool:
    """Whether a node defines a function that is cut out whole."""
    if node.type in WRAPPERS:
        return any(is_function(child) for child in node.named_children)
    if node.type == "lexical_declaration":
        return any(_is_arrow(child) for child in node.named_children)
    return node.type in FUNCTIONS and node.type != "template_declaration"


def _is_arrow(node: Node) -> bool:
    value = node.child_by_field_name("value") if node.type == "variable_declarator" else None
    return value is not None and value.type in ("arrow_function", "function_expression")


def _function(node: Node, content: bytes) -> CodeFunction:
    first = node
    comments: list[Node] = []
    above = node.prev_sibling
    while above is not None and above.type in _BETWEEN | _COMMENTS:
        below = comments[-1] if comments else first
        if below.start_point[0] - above.end_point[0] > 1:
            break  # a blank line parts them
        if above.type in _COMMENTS:
            comments.append(above)
        elif comments:
            break
        else:
            first = above
        above = above.prev_sibling
    code = _dedented(content, first.start_byte, node.end_byte)
    # A Rust doc comment's node takes its line end with it.
    texts = [_text(comment, content).rstrip("\n") for comment in reversed(comments)]
    return CodeFunction(
        name=_name(node, content),
        comment=comment_text("\n".join(texts)) or None,
        code=code,
        line=first.start_point[0] + 1,
        num_lines=sum(bool(line.strip()) for line in code.split("\n")),
    )


def _name(node: Node, content: bytes) -> str:
    for field in ("name", "declarator", "declaration"):
        child = node.child_by_field_name(field)
        if child is not None:
            deeper = _name(child, content)
            return deeper or _text(child, content).split("(")[0].strip()
    return ""


def _text(node: Node, content: bytes) -> str:
    return content[node.start_byte : node.end_byte].decode("utf-8", "replace")


def _dedented(content: bytes, start: int, end: int) -> str:
    """The code from its first character on, later lines moved left by its own indentation."""
    begin = content.rfind(b"\n", 0, start) + 1
    before = content[begin:start]
    indent = before[: len(before) - len(before.lstrip())] if before.isspace() else b""
    lines = content[start:end].replace(b"\r\n", b"\n").split(b"\n")
    cut = [line[len(indent) :] if indent and line.startswith(indent) else line for line in lines]
    return b"\n".join(cut).decode("utf-8", "replace").rstrip()
