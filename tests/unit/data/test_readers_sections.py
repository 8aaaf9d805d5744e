from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from opengte.data.readers.html_sections import html_sections
from opengte.data.readers.markdown import clean_inline, markdown_sections
from opengte.data.readers.plain_text import text_sections
from opengte.data.readers.report import ReadReport
from opengte.data.readers.rst import rst_sections
from opengte.data.readers.sections import Section, is_boilerplate, section_pairs

ROOT = Path(__file__).resolve().parents[3]


def outline(sections: object) -> list[tuple[int, str]]:
    return [(s.level, s.heading) for s in sections if s.heading]  # type: ignore[attr-defined]


def reference_outline(text: str) -> list[tuple[int, str]]:
    """Headings at the top level of the document by a CommonMark parser."""
    tokens = MarkdownIt().parse(text)
    return [
        (int(token.tag[1]), tokens[number + 1].content)
        for number, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0
    ]


markdown_lines = st.sampled_from(
    [
        "# One",
        "## Two ##",
        "###### Six",
        "####### seven is text",
        "#hashtag",
        "Title",
        "=====",
        "---",
        "",
        "",
        "text",
        "more text here",
        "```",
        "```python",
        "~~~",
        "````",
        "# comment in code?",
    ]
)


@settings(deadline=None)
@given(st.lists(markdown_lines, max_size=14))
def test_markdown_headings_are_those_of_a_commonmark_parser(lines: list[str]) -> None:
    text = "\n".join(lines)
    ours = outline(markdown_sections("\n" + text))  # a first "---" would be front matter
    theirs = [
        (level, " ".join(heading.split())) for level, heading in reference_outline(text) if heading
    ]
    assert [(level, " ".join(heading.split())) for level, heading in ours] == theirs


def test_markdown_headings_of_our_own_documents() -> None:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        ours = [level for level, _ in outline(markdown_sections(text))]
        assert ours == [level for level, _ in reference_outline(text)], path


def test_markdown_section_keeps_code_and_drops_markup() -> None:
    text = (
        "---\ntitle: 'The page'\n---\nIntro with a [link](http://x.y/z_(a)).\n<!-- hidden\n"
        "# no heading\n-->\n## Use `it` [here](u) {#id}\n\n![badge](b.svg)\n**Bold** and *soft* "
        "a_b_c &amp; <b>tag</b>.\n\n```py\n# code\nx = a[1](2)\n```\n\n- item\n[ref]: http://a\n"
    )
    first, second = markdown_sections(text)
    assert (first.heading, first.level, first.text) == ("The page", 1, "Intro with a link.")
    assert (second.heading, second.level, second.line) == ("Use it here", 2, 8)
    assert second.text == "badge\nBold and soft a_b_c & tag.\n\n# code\nx = a[1](2)\n\n- item"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("`a_b` and **c**", "a_b and c"),
        ("[`x`](y) \\*star\\*", "x *star*"),
        ("<https://a.b> see [this][1]", " see this"),
        ("snake_case_name stays", "snake_case_name stays"),
    ],
)
def test_inline_markdown_becomes_plain(text: str, plain: str) -> None:
    assert clean_inline(text) == plain


def test_rst_levels_follow_the_order_of_styles() -> None:
    text = (
        "=====\nTitle\n=====\n\nIntro.\n\nFirst\n=====\n\nOne.\n\nDeeper\n------\n\nTwo.\n\n"
        "Second\n======\n\nThree\n\n----\n\nafter a transition\n"
    )
    sections = list(rst_sections(text))
    assert outline(sections) == [(1, "Title"), (2, "First"), (3, "Deeper"), (2, "Second")]
    assert sections[-1].text == "Three\n\nafter a transition"


def test_rst_headings_are_those_of_docutils() -> None:
    docutils = pytest.importorskip("docutils.core")
    nodes = pytest.importorskip("docutils.nodes")
    import docutils as package

    folder = Path(package.__file__).parent / "parsers/rst/include"
    texts = [path.read_text() for path in sorted(folder.glob("*.txt"))[:3]]
    texts.append(
        "A\n=\n\nB\n==\n\ntext\n\nC: long ``one``\n------------------\n\nx\n\nD\n==\n\ny\n"
    )
    for text in texts:
        tree = docutils.publish_doctree(text, settings_overrides={"report_level": 5})
        theirs = [n.astext() for n in tree.findall(nodes.title)]
        assert [heading for _, heading in outline(rst_sections(text))] == theirs


def test_rst_directives_and_roles_become_text() -> None:
    text = (
        "Use\n===\n\n.. _target:\n\n.. image:: a.png\n   :alt: none\n\n.. note:: Mind "
        ":func:`~a.b.c` and `text <url>`_.\n\n.. code-block:: python\n   :linenos:\n\n   x = 1\n\n"
        "As follows::\n\n"
        "    code\n\n.. comment\n   hidden\n\nEnd |sub| [1]_ here_."
    )
    (_, section) = rst_sections(text)
    expected = "Mind c and text.\n\nx = 1\n\nAs follows:\n\n    code\n\nEnd sub  here."
    assert section.text == expected


def test_html_headings_and_text_without_navigation() -> None:
    text = (
        "<html><head><title>Page</title><style>x{}</style></head><body><nav>Menu</nav>"
        "<p>Lead &amp; more</p><h1>Main<a class='headerlink' href='#'>¶</a></h1><p>One<br>two</p>"
        "<script>var a = '<h2>no</h2>';</script><pre>a\n  b</pre><h2>Sub</h2><ul><li>x<li>y</ul>"
    )
    sections = list(html_sections(text))
    assert outline(sections) == [(1, "Page"), (1, "Main"), (2, "Sub")]
    assert [s.text for s in sections] == ["Lead & more", "One\ntwo\n\na\n  b", "x\ny"]


def test_text_title_is_a_short_first_line_that_stands_alone() -> None:
    (titled,) = text_sections("\nThe first line\n\nBody here.\n")
    assert (titled.heading, titled.text, titled.line) == ("The first line", "Body here.", 2)
    (plain,) = text_sections("a sentence that goes\non and on\n")
    assert (plain.heading, plain.level) == ("", 0)
    assert outline(text_sections("Notes\n=====\n\nbody\n\nMore\n----\n\nx")) == [
        (1, "Notes"),
        (2, "More"),
    ]
    assert list(text_sections(" \n\n")) == []


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_a_section_scanner(text: str) -> None:
    for scan in (markdown_sections, rst_sections, html_sections, text_sections):
        for section in scan(text):
            assert isinstance(section.text, str)


def test_pairs_carry_the_title_and_drop_boilerplate_with_its_reason() -> None:
    body = "eight words are needed for a section here, really"
    report = ReadReport()
    sections = [
        Section("Library", 1, body, 1),
        Section("2.1 Install", 2, body, 5),
        Section("License", 2, body, 9),
        Section("v1.2.0 (2024-01-01)", 2, body, 12),
        Section("Short", 2, "too few words", 15),
        Section("***", 2, body, 17),
    ]
    pairs = list(section_pairs(sections, path="a.md", group="g", report=report))
    assert [(p.kind, p.query, p.origin) for p in pairs] == [
        ("title-description", "Library", "a.md:1"),
        ("heading-section", "Library: Install", "a.md:5"),
    ]
    assert report.skipped == {
        "boilerplate section": 2,
        "section under 8 words": 1,
        "section without a heading": 1,
    }


@pytest.mark.parametrize(
    "heading", ["Changelog", "1.0.3", "[Unreleased]", "See also", "2024-03-01"]
)
def test_boilerplate_headings(heading: str) -> None:
    assert is_boilerplate(heading)
    assert not is_boilerplate("Versioned storage of 1.0 files")
