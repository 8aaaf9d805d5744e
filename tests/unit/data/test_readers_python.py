from __future__ import annotations

import ast
import sysconfig
import textwrap
import time
from pathlib import Path

import pytest

from opengte.data.readers import ReadReport, read_functions, read_python_file
from opengte.data.readers.docstrings import docstring_sections, query_of, triviality
from opengte.data.readers.identifiers import words_of
from opengte.data.readers.python_source import parse_python
from opengte.errors import DataError

STDLIB = Path(sysconfig.get_paths()["stdlib"])


def without_docstrings(tree: ast.AST) -> ast.AST:
    """The reference: the same tree with docstring nodes taken out, ``...`` where none is left."""
    for node in ast.walk(tree):
        is_definition = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if is_definition and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Expr(ast.Constant(...))]
    return tree


def definitions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions outside functions, found by a plain recursion over all child nodes."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(node)
        elif isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            found.extend(definitions(node))
    return found


@pytest.mark.parametrize(
    "name", ["argparse", "ast", "typing", "json/decoder", "asyncio/tasks", "logging/__init__"]
)
def test_code_equals_the_syntax_tree_without_docstrings(name: str) -> None:
    source = (STDLIB / f"{name}.py").read_text()
    functions = parse_python(source).functions
    reference = definitions(ast.parse(source))
    assert len(functions) == len(reference)
    for function, node in zip(functions, reference, strict=True):
        docstring = ast.get_docstring(node, clean=False)
        expected = ast.dump(without_docstrings(node))
        cut = ast.parse(function.code).body[0]
        assert ast.dump(cut) == expected, function
        assert function.docstring == docstring
        placeholders = [n for n in ast.walk(cut) if is_placeholder(n)]
        statements = [n for n in ast.walk(cut) if isinstance(n, ast.stmt)]
        written = [n for n in ast.walk(node) if is_placeholder(n)]
        assert len(placeholders) == len(written)
        assert len(statements) - 1 - function.num_statements <= len(placeholders)


def is_placeholder(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and ast.dump(node.value) == "Constant(value=Ellipsis)"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ('def f(): "doc"', "def f(): ..."),
        ('def f(): "doc"; return 1', "def f(): return 1"),
        ('def f():\n    "doc"  # kept\n    return 1', "def f():\n    # kept\n    return 1"),
        ('def f():\n    ("a"\n     "b")\n    return 1', "def f():\n    return 1"),
        ('def f():\n  "a" ; x = 1\n  return x', "def f():\n  x = 1\n  return x"),
        ("def f():\n\t'''a\n b'''\n\treturn 1", "def f():\n\treturn 1"),
        (
            '@wraps(g)\ndef f():\n    "doc"\n    # why\n    g()',
            "@wraps(g)\ndef f():\n    # why\n    g()",
        ),
        ('async def f():\n    """ä"""; await g("ü")', 'async def f():\n    await g("ü")'),
        (
            'def f():\n    "doc"\n    def g():\n        "inner"\n    return g',
            "def f():\n    def g():\n        ...\n    return g",
        ),
    ],
)
def test_docstring_is_cut_and_the_rest_stays(source: str, code: str) -> None:
    cut = parse_python(source).functions[0].code
    assert [line.rstrip() for line in cut.split("\n")] == [
        line.rstrip() for line in code.split("\n")
    ] or ast.dump(ast.parse(cut)) == ast.dump(ast.parse(code))
    assert ("# kept" in code) == ("# kept" in cut)
    assert ("# why" in code) == ("# why" in cut)


def test_methods_are_dedented_and_named_with_their_classes() -> None:
    source = textwrap.dedent(
        '''
        class A:
            """About A."""
            class B:
                if True:
                    @property
                    def size(self):
                        """How many there are."""
                        text = """a
        b"""
                        return len(text)
        '''
    )
    parsed = parse_python(source, path="m.py")
    (function,) = parsed.functions
    assert function.qualified_name == "A.B.size"
    assert function.code.startswith("@property\ndef size(self):\n    text = ")
    assert 'a\nb"""' in function.code
    assert (function.line, function.num_statements, function.is_stub) == (6, 2, False)
    assert [(d.kind, d.qualified_name) for d in parsed.docstrings] == [
        ("class", "A"),
        ("function", "A.B.size"),
    ]


def test_nested_functions_belong_to_the_function_around_them() -> None:
    source = 'def f():\n    """Make one."""\n    def g():\n        """Inner."""\n        return 1\n'
    (function,) = parse_python(source + "    return g\n").functions
    assert function.name == "f"
    assert "Inner" not in function.code
    assert function.num_statements == 3


def test_undocumented_functions_are_there_for_the_pool() -> None:
    functions = list(read_functions("m.py", source="def f(x):\n    y = x\n    return y\n"))
    assert (functions[0].docstring, functions[0].num_statements) == (None, 2)


def test_broken_source_is_an_error_or_counted() -> None:
    with pytest.raises(DataError, match=r"bad\.py:2: not valid Python"):
        list(read_functions("bad.py", source="x = 1\ndef (:\n"))
    report = ReadReport()
    assert list(read_functions("bad.py", source="def (:", report=report)) == []
    assert report.skipped == {"does not parse": 1}
    with pytest.raises(DataError, match="cannot be decoded"):
        list(read_functions("bad.py", source=b"# coding: latin-17\n"))
    for content in (b"\0", b"\xff\xfe", b"(" * 5000, b"x = " + b"-" * 100_000 + b"1"):
        assert read_python_file("bad.py", source=content).report.skipped == {"does not parse": 1}


def test_latin1_coding_comment_is_obeyed() -> None:
    source = '# -*- coding: latin-1 -*-\ndef f():\n    """Grüße."""\n    return "ä"\n'
    (function,) = read_functions("m.py", source=source.encode("latin-1"))
    assert function.docstring == "Grüße."
    assert function.code.endswith('return "ä"')


@pytest.mark.parametrize(
    ("docstring", "query"),
    [
        ("Join  the\n    parts.\n\n    More.", "Join the parts."),
        ("\n    Return :class:`~a.b.C` of ``x``.\n\n    :param x: a\n", "Return C of x."),
        ("Do it.\n    :param x: the x\n", "Do it."),
        ("Do it.\n\n    Parameters\n    ----------\n    x : int\n", "Do it."),
        ("Do it now\n    x : int\n        The x.\n", "Do it now"),
        ("Returns: the sum of both.\n    Raises: nothing\n", "Returns: the sum of both."),
        ("Add.\n    >>> add(1)\n    2\n", "Add."),
        (">>> add(1)\n2\n", ""),
        ("Parameters\n----------\nx : int\n", ""),
        ("Args:\n    x: a\n", ""),
        ("%(before)s Density of the thing.", "Density of the thing."),
        ("See :meth:`f <a.b.f>` for `more`.", "See f for more."),
        ("返回一个列表。", "返回一个列表。"),
    ],
)
def test_query_is_the_first_paragraph_in_plain_words(docstring: str, query: str) -> None:
    assert query_of(docstring) == query


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "docstring without prose"),
        ("See help", "trivial docstring"),
        ("See the documentation of the base class.", "trivial docstring"),
        ("TODO", "trivial docstring"),
        ("TODO: write this docstring some day", "trivial docstring"),
        ("Return self.", "docstring under 4 words"),
        ("Return the sum of two numbers.", None),
        ("Seed the generator with a number.", None),
        ("返回一个排序后的列表", None),
        ("列表", "docstring under 4 words"),
    ],
)
def test_trivial_docstrings_are_told(query: str, reason: str | None) -> None:
    assert triviality(query) == reason


def test_sections_of_numpy_and_google_docstrings() -> None:
    numpy = "Do.\n\nNotes\n-----\nIt is so.\n\nExamples\n--------\n>>> 1\n1\n"
    assert [(h, t) for h, _, t in docstring_sections(numpy)] == [
        ("", "Do."),
        ("Notes", "It is so."),
        ("Examples", ">>> 1\n1"),
    ]
    google = "Do.\n\nArgs:\n    x: the x\n\nNote:\n    It is so.\n"
    assert [(h, t) for h, _, t in docstring_sections(google)] == [
        ("", "Do."),
        ("Args", "    x: the x"),
        ("Note", "    It is so."),
    ]


def test_identifiers_become_words() -> None:
    assert words_of("HTTPServer_error2") == "HTTP Server error 2"
    assert words_of("getURLFor_größe") == "get URL For größe"


def test_file_gives_three_kinds_of_pairs_and_counts_what_it_drops() -> None:
    source = textwrap.dedent(
        '''
        """Tools for reading and joining small tables of text."""

        class TableReader:
            """Reads rows of a table one after the other from disk.

            Notes
            -----
            The file is never held in memory as a whole; rows come in their order.
            """

            def read(self):
                """Return the next row of the table, or None at its end."""
                return next(self.rows, None)

            def close(self):
                """Close the underlying file and forget it."""
                raise NotImplementedError

            def name(self):
                """See help."""
                return 1
        '''
    )
    result = read_python_file("pkg/table_io.py", source=source, group="pkg")
    assert [(p.kind, p.query, p.origin) for p in result.pairs] == [
        (
            "docstring-code",
            "Return the next row of the table, or None at its end.",
            "pkg/table_io.py:12",
        ),
        ("title-description", "table io", "pkg/table_io.py:1"),
        ("title-description", "Table Reader (table io)", "pkg/table_io.py:4"),
        ("heading-section", "Table Reader (table io): Notes", "pkg/table_io.py:7"),
    ]
    assert result.pairs[0].positive == "def read(self):\n    return next(self.rows, None)"
    assert all(pair.group == "pkg" for pair in result.pairs)
    assert result.report.skipped == {"stub function": 1, "trivial docstring": 1}
    assert len(result.functions) == 3


def test_reading_keeps_pace_with_parsing() -> None:
    """A second walk over the tree must stay cheap beside the parse itself."""
    paths = [STDLIB / f"{name}.py" for name in ("argparse", "typing", "inspect", "tarfile")]
    sources = [path.read_bytes() for path in paths]

    def seconds(run: object) -> float:
        start = time.process_time()
        for path, source in zip(paths, sources, strict=True):
            run(str(path), source)  # type: ignore[operator]
        return time.process_time() - start

    def read(path: str, source: bytes) -> None:
        read_python_file(path, source=source)

    def parse(path: str, source: bytes) -> None:
        ast.parse(source)

    ratio = min(seconds(read) / seconds(parse) for _ in range(3))
    assert ratio < 3
