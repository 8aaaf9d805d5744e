"""Layouts of dumps of which no open excerpt was at hand, and what every dump must refuse."""

from __future__ import annotations

import builtins
import bz2
import io
import json
from pathlib import Path
from typing import Any

import pytest

from opengte.data.readers import ReadReport, read_pairs, read_source
from opengte.data.readers.bibtex import plain_latex
from opengte.data.readers.dbpedia import unescape_literal
from opengte.data.readers.mbox import own_text, plain_subject
from opengte.data.readers.wikitext import plain_wikitext
from opengte.errors import DataError, MissingExtraError
from opengte.records import Pair

LONG = "a description of twenty characters or more"


def facts(pairs: Any) -> list[tuple[str, str, str]]:
    return [(pair.kind, pair.query, pair.positive) for pair in pairs]


def rows(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


POSTS = """<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="1" PostTypeId="1" Score="3" Title="How?"
    Body="&lt;p&gt;I want &lt;b&gt;it&lt;/b&gt;.&lt;/p&gt;" />
  <row Id="2" PostTypeId="2" ParentId="1" Score="2"
    Body="&lt;p&gt;Do this:&lt;/p&gt;&lt;pre&gt;x = 1&#xA;&lt;/pre&gt;" />
  <row Id="3" PostTypeId="2" ParentId="1" Score="-1" Body="bad advice" />
  <row Id="4" PostTypeId="2" ParentId="9" Score="1" Body="lost" />
  <row Id="5" PostTypeId="5" Score="0" Body="a tag's wiki" />
</posts>"""


def test_stack_exchange_posts_and_comments(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(POSTS)
    comments = f'<comments><row PostId="1" Score="0" Text="{LONG}"/><row PostId="2" Text="x"/>'
    (tmp_path / "Comments.xml").write_text(f"{comments}</comments>")
    report = ReadReport()
    expected = [
        ("title-body", "How?", "I want it."),
        ("question-answer", "How?", "Do this:\n\nx = 1"),
    ]
    assert facts(read_pairs(tmp_path / "Posts.xml", report=report)) == expected
    assert report.skipped == {"score under 0": 1, "post without its question": 1}
    assert facts(read_pairs(tmp_path)) == [*expected, ("post-comment", "How?", LONG)]


def test_reddit_posts_before_comments(tmp_path: Path) -> None:
    rows(
        tmp_path / "RC_2020-01",
        {"id": "c1", "parent_id": "t3_p1", "body": LONG, "score": 5, "subreddit": "s"},
        {"id": "c2", "parent_id": "t1_c1", "body": f"reply: {LONG}", "score": 2, "subreddit": "s"},
        {"id": "c3", "parent_id": "t3_p1", "body": "[deleted]", "score": 2, "subreddit": "s"},
        {"id": "c4", "parent_id": "t3_p1", "body": LONG, "score": -2, "subreddit": "s"},
    )
    rows(
        tmp_path / "RS_2020-01",
        {"id": "p1", "title": "Post", "selftext": LONG, "score": 9, "subreddit": "s"},
        {"id": "p2", "title": "Link", "selftext": "", "score": 9, "subreddit": "s"},
    )
    assert facts(read_pairs(tmp_path)) == [
        ("title-body", "Post", LONG),
        ("post-comment", "Post", LONG),
        ("post-comment", LONG, f"reply: {LONG}"),
    ]


def test_arxiv_and_s2orc_rows(tmp_path: Path) -> None:
    arxiv = {
        "id": "0704.1",
        "title": "On\n  things",
        "abstract": " We show\n it. ",
        "categories": "x",
    }
    path = rows(tmp_path / "arxiv.json", arxiv, arxiv)
    assert facts(read_pairs(path))[0] == ("title-abstract", "On things", "We show it.")
    s2orc = {
        "paper_id": "7",
        "title": "Paper",
        "pdf_parse": {
            "abstract": [{"text": "Part one."}, {"text": "Part two."}],
            "body_text": [
                {
                    "text": "First. As shown before [1], it works. Last.",
                    "cite_spans": [{"start": 23, "end": 26, "ref_id": "B0"}, {"ref_id": "B9"}],
                }
            ],
            "bib_entries": {"B0": {"title": "The  cited one"}},
        },
    }
    assert facts(read_pairs(rows(tmp_path / "s2orc.jsonl", s2orc))) == [
        ("title-abstract", "Paper", "Part one.\n\nPart two."),
        ("citation-reference", "As shown before [1], it works.", "The cited one"),
    ]
    with pytest.raises(DataError, match=r"1 rows were skipped \(1 x paper without an abstract\)"):
        list(read_pairs(rows(tmp_path / "none.jsonl", {"paper_id": "1", "title": "t"})))


def test_news_rows(tmp_path: Path) -> None:
    row = {"article": "The body.", "highlights": ["One.", "Two."], "title": "Headline"}
    assert facts(read_pairs(rows(tmp_path / "cnn.jsonl", row))) == [
        ("highlight-body", "One. Two.", "The body."),
        ("title-body", "Headline", "The body."),
    ]
    row = {"document": "The body.", "summary": "Short."}
    assert facts(read_pairs(rows(tmp_path / "xsum.jsonl", row))) == [
        ("summary-content", "Short.", "The body.")
    ]


def test_dbpedia_and_wikidata_entities(tmp_path: Path) -> None:
    comment = "<http://www.w3.org/2000/01/rdf-schema#comment>"
    (tmp_path / "a.ttl").write_text(
        "# started 2020\n"
        f'<http://dbpedia.org/resource/Caf%C3%A9_au_lait> {comment} "A \\"drink\\"\\u0021"@en .\n'
        f"<http://dbpedia.org/resource/B> <http://x/y> <http://z> .\n"
    )
    assert facts(read_pairs(tmp_path / "a.ttl")) == [
        ("entity-description", "Café au lait", 'A "drink"!')
    ]
    entity = {
        "id": "Q1",
        "labels": {"en": {"value": "universe"}, "de": {"value": "Universum"}},
        "descriptions": {"en": {"value": "everything"}},
        "claims": {},
    }
    lines = ["[", json.dumps(entity) + ",", json.dumps({**entity, "labels": []}), "]"]
    (tmp_path / "dump.json.bz2").write_bytes(bz2.compress("\n".join(lines).encode()))
    assert facts(read_pairs(tmp_path / "dump.json.bz2")) == [
        ("entity-description", "universe", "everything")
    ]


def test_jira_exports(tmp_path: Path) -> None:
    document = {"type": "doc", "content": [{"type": "paragraph", "content": [{"text": LONG}]}]}
    issue = {
        "key": "AB-1",
        "fields": {
            "summary": "Broken",
            "description": document,
            "comment": {"comments": [{"body": f"{{code}}{LONG}{{code}}"}]},
        },
    }
    (tmp_path / "page.json").write_text(json.dumps({"total": 1, "issues": [issue]}, indent=1))
    expected = [("title-body", "Broken", LONG), ("post-comment", "Broken", LONG)]
    assert facts(read_pairs(tmp_path / "page.json")) == expected
    (tmp_path / "export.csv").write_text(f"Summary,Issue key,Description\nBroken,AB-1,{LONG}\n")
    assert facts(read_pairs(tmp_path / "export.csv")) == expected[:1]
    (tmp_path / "export.xml").write_text(
        f"<rss><channel><item><key>AB-1</key><summary>Broken</summary><description>&lt;p&gt;{LONG}"
        f"&lt;/p&gt;</description><comments><comment>{LONG}</comment></comments></item></channel></rss>"
    )
    assert facts(read_pairs(tmp_path / "export.xml")) == expected
    assert next(iter(read_pairs(tmp_path / "export.xml"))).group == "AB"


def test_word_documents_by_heading_styles(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_heading("The Manual", 0)
    document.add_paragraph("This manual describes in eight words or more everything.")
    document.add_heading("Setting up", 1)
    document.add_paragraph("Plug it in, wait for the green light, then press start.")
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "left", "right"
    document.save(tmp_path / "manual.docx")
    pairs = list(read_source(tmp_path / "manual.docx"))
    assert facts(pairs) == [
        (
            "title-description",
            "The Manual",
            "This manual describes in eight words or more everything.",
        ),
        (
            "heading-section",
            "The Manual: Setting up",
            "Plug it in, wait for the green light, then press start.\nleft | right",
        ),
    ]


def test_pdf_outline_makes_sections(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    from opengte.data.readers.pdf import pdf_sections

    writer = pypdf.PdfWriter()
    for _ in range(2):
        writer.add_blank_page(100, 100)
    writer.add_outline_item(title="First", page_number=0)
    writer.add_outline_item(title="Second", page_number=1)
    content = io.BytesIO()
    writer.write(content)
    sections = list(pdf_sections(content.getvalue(), path="a.pdf"))
    assert [(s.heading, s.line) for s in sections] == [("First", 1), ("Second", 2)]
    writer.encrypt("secret")
    content = io.BytesIO()
    writer.write(content)
    with pytest.raises(DataError, match=r"a\.pdf: an encrypted PDF|no readable PDF"):
        list(pdf_sections(content.getvalue(), path="a.pdf"))


ENTITIES = [
    '<!DOCTYPE posts [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><posts><row Title="&b;"/></posts>',
    '<!DOCTYPE posts [<!ENTITY f SYSTEM "file:///etc/passwd">]><posts>&f;</posts>',
]


@pytest.mark.parametrize("text", ENTITIES)
def test_xml_entities_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(text)
    with pytest.raises(DataError, match="it declares entities, which are not expanded here"):
        list(read_pairs(tmp_path / "Posts.xml"))


def test_truncated_xml_names_its_line_and_keeps_what_came_before(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(POSTS[: POSTS.index('<row Id="3"')])
    with pytest.raises(DataError, match=r"Posts\.xml:7: not readable XML: no element found"):
        list(read_pairs(tmp_path / "Posts.xml"))
    pairs = list(read_pairs(tmp_path / "Posts.xml", on_bad_row="skip"))
    assert len(pairs) == 2


def test_one_endless_tag_stays_bounded(tmp_path: Path) -> None:
    import tracemalloc

    from opengte.data.readers import xml_stream

    (tmp_path / "Posts.xml.bz2").write_bytes(bz2.compress(b'<posts><row Body="' + b"x" * 2**25))
    limit = xml_stream.MAX_TOKEN_BYTES
    xml_stream.MAX_TOKEN_BYTES = 2**22
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="one tag is longer than 4,194,304 bytes"):
            list(read_pairs(tmp_path / "Posts.xml.bz2", format="stack-exchange"))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
        xml_stream.MAX_TOKEN_BYTES = limit


@pytest.mark.parametrize(
    ("name", "content", "format", "message"),
    [
        (
            "a.bib",
            "@book{k, title = {never closed",
            "auto",
            r"a\.bib:1: a value that is not closed",
        ),
        ("a.bib", "\n\n@book{k, title}", "auto", r"a\.bib:3: expected a field and '='"),
        ("a.po", "msgid nothing\n", "auto", r"a\.po:1: expected msgid, msgstr or a quoted text"),
        ("a.mbox", "Dear all,\n", "auto", r"a\.mbox:1: expected a 'From ' line"),
        ("log.txt", "\nfoo\n", "git-log", r"log\.txt:2: expected a line 'commit HASH'"),
        ("a.tmx", "<tmx><tu></tmx>", "auto", r"a\.tmx:1: not readable XML: mismatched tag"),
        ("a.en", "one\n", "moses", r"expected one file beside it in another language than 'en'"),
        ("t.tsv", "one column\n", "parallel", r"t\.tsv:1: expected two columns with a tab"),
        ("w.json", "[\n{broken,\n]", "wikidata", r"w\.json:2: not valid JSON"),
        ("c.jsonl", '{"text": "a"}\n', "class-labels", r"c\.jsonl:1: no field 'label_text'"),
        ("c.jsonl", '{"text": "a", "label": "x"}\n', "class-labels", "needs two classes at least"),
        (
            "s.jsonl",
            '{"sentence1": "a", "sentence2": "b", "score": 9}\n',
            "sts",
            r"in \[0, 5\], got 9",
        ),
        (
            "n.jsonl",
            '{"sentence1": "a", "sentence2": "b", "label": "?"}\n',
            "nli",
            "must be entailment",
        ),
        ("n.jsonl", '{"label": "neutral"}\n', "nli", "no fields 'sentence1' and 'sentence2'"),
        ("a.json", '[{"query": "q"', "json", r"a\.json:1: not valid JSON"),
        ("a.json", "[3]", "json", r"a\.json: element 1 must be an object, got int"),
        ("a.parquet", "PAR1 no", "auto", r"a\.parquet:1: no readable Parquet file"),
        ("a.arrow", "ARROW1 no", "auto", r"a\.arrow:1: no readable Arrow file"),
        ("a.warc", "no records", "auto", r"a\.warc"),
    ],
)
def test_broken_files_name_the_place(
    name: str, content: str, format: str, message: str, tmp_path: Path
) -> None:
    if name.endswith(".warc"):
        pytest.importorskip("warcio")
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_pairs(tmp_path / name, format=format))


def test_moses_files_of_unequal_length_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.en").write_text("one\ntwo\n")
    (tmp_path / "c.de").write_text("eins\n")
    with pytest.raises(DataError, match=r"c\.de: ends before line 2 of c\.en"):
        list(read_pairs(tmp_path / "c.en", format="moses"))


def test_missing_grammar_is_named_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opengte.data.readers import code_comments

    monkeypatch.setitem(code_comments.GRAMMARS, "go", ("tree_sitter_nothing", "language"))
    code_comments.parser_of.cache_clear()
    with pytest.raises(MissingExtraError, match=r"tree-sitter-nothing .*opengte\[code\]"):
        code_comments.parser_of("go")
    (tmp_path / "a.go").write_text("package a\n")
    report = ReadReport()
    assert list(read_source(tmp_path, report=report)) == []
    assert next(iter(report.skipped)).startswith("needs an extra: tree-sitter-nothing")
    code_comments.parser_of.cache_clear()


def test_a_package_that_trafilatura_lacks_is_a_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "a.html"
    page.write_text("<html><head><title>a</title></head><body><p>b</p></body></html>")
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "trafilatura":  # as lxml >= 5.2 says it, without lxml_html_clean
            raise ImportError("lxml.html.clean module is now a separate project", name="lxml")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r'lxml_html_clean is not .*"opengte\[html\]"'):
        list(read_pairs(page, format="web-page"))


def test_a_warc_record_of_a_wrong_length_is_named_and_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("warcio")
    record = b"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: 1\r\n\r\nab\r\n\r\n\r\n"
    (tmp_path / "a.warc").write_bytes(record * 3)
    with pytest.raises(DataError, match=r"a\.warc:1: .*not as long as its Content-Length says"):
        list(read_pairs(tmp_path / "a.warc"))
    report = ReadReport()
    with pytest.raises(DataError, match="holds no pairs; 5 rows were skipped"):
        list(read_pairs(tmp_path / "a.warc", on_bad_row="skip", report=report))
    assert report.skipped["record of a wrong length"] == 2
    assert capfd.readouterr() == ("", "")


def test_latex_accents_become_letters() -> None:
    assert plain_latex(r"{\"o}, \'e, \v{c}, {\ss}, \c c, {\'\i} \&") == "ö, é, č, ß, ç, í &"
    assert plain_latex("The {GNU}~{\\em C} Library") == "The GNU C Library"


def test_bibtex_strings_join_and_a_title_keeps_its_one_stop(tmp_path: Path) -> None:
    (tmp_path / "a.bib").write_text(
        '@String{ jss = "Journal of " # {Statistical Software} }\n'
        "@article{a, author = {Knuth, Donald}, year = 1984, title = {Why not?}, journal = jss}\n"
        "@article{b, author = {A and B}, year = 1985, title = {It is so.}, journal = JSS # {!}}\n"
    )
    assert facts(read_pairs(tmp_path / "a.bib")) == [
        ("citation-reference", "Knuth 1984", "Why not? Journal of Statistical Software"),
        ("citation-reference", "A and B 1985", "It is so. Journal of Statistical Software!"),
    ]


def test_mail_quotes_signatures_and_prefixes_are_cut() -> None:
    body = "On Monday, Ann wrote:\n> old\n>> older\nMy answer.\n-- \nBob"
    assert own_text(body) == "My answer."
    assert plain_subject("Re: [list] AW: Re: The  subject") == "The subject"


def test_wikitext_markup_is_cut() -> None:
    text = (
        "{{Info|a={{b}}}}'''Rome''' ({{lang|it|Roma}}) is a [[city|big city]] in [[Italy]].<ref>x"
        "</ref> [[File:a.jpg|thumb|of [[Rome]]]]{| class=x\n| y\n|}\n* one &amp; [http://a two]"
    )
    assert plain_wikitext(text) == "Rome is a big city in Italy.\none & two"


def test_ntriples_escapes() -> None:
    assert unescape_literal(r"a\tb\u00e9\U0001F600\\\"") == 'a\tbé😀\\"'
    assert unescape_literal(r"\ud800") == "\ufffd"


def test_pair_values_are_plain_strings(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(POSTS)
    for pair in read_pairs(tmp_path / "Posts.xml"):
        assert isinstance(pair, Pair)
        assert type(pair.query) is str
        assert type(pair.group) is str
