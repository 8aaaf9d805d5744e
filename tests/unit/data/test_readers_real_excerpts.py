"""Readers on excerpts of the origins' own files: tests/data/readers/SOURCES.md says whose."""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from opengte.data.readers import ReadReport, read_documents, read_pairs, read_source
from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.bibtex import bibtex_entries
from opengte.data.readers.code_comments import parser_of
from opengte.data.readers.csv_rows import read_csv_rows
from opengte.data.readers.gettext_po import po_entries
from opengte.data.readers.git_log import commits
from opengte.data.readers.lines import read_whole
from opengte.data.readers.mbox import mbox_messages
from opengte.data.readers.notebooks import notebook_cells
from opengte.data.readers.xml_stream import xml_elements
from opengte.records import Pair

EXCERPTS = Path(__file__).parents[2] / "data" / "readers"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack("code", tmp_path_factory)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack("documents", tmp_path_factory)


def unpack(name: str, factory: pytest.TempPathFactory) -> Path:
    folder = factory.mktemp(name)
    with tarfile.open(EXCERPTS / f"{name}.tar.xz") as archive:
        # Python 3.11.0 to 3.11.3 know no filters; the archive is the repository's own.
        options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **options)
    return folder


def read(name: str, report: ReadReport | None = None) -> list[Pair]:
    return list(read_pairs(EXCERPTS / name, report=report))


def find(pairs: list[Pair], query: str) -> Pair:
    found = [pair for pair in pairs if pair.query == query]
    assert found, f"no query {query!r}"
    return found[0]


def test_wikipedia_dump_gives_leads_and_sections() -> None:
    report = ReadReport()
    pairs = read("enwiki-pages.xml.bz2", report)
    pages = list(xml_elements(EXCERPTS / "enwiki-pages.xml.bz2", "page", BadRows()))
    redirects = sum(page.child("redirect") is not None for page in pages)
    assert (len(pages), redirects, report.skipped["redirect"]) == (116, 10, 10)
    leads = [pair for pair in pairs if pair.kind == "entity-description"]
    assert len(leads) >= 100
    assert find(pairs, "Anarchism").positive.startswith("Anarchism is a political philosophy")
    assert find(pairs, "Autism").group == "Autism"
    for pair in leads:
        assert not re.search(r"\[\[|\]\]|\{\{|<ref|'''", pair.positive), pair.positive[:300]


def test_bibtex_entries_and_pairs() -> None:
    entries = list(bibtex_entries(EXCERPTS / "nilearn-references.bib", BadRows()))
    text = (EXCERPTS / "nilearn-references.bib").read_text(encoding="utf-8")
    assert len(entries) == len(re.findall(r"(?m)^@", text)) == 117
    pairs = read("nilearn-references.bib")
    assert len(pairs) == 117
    reference = find(pairs, "Anderson and Robinson 2001").positive
    assert reference == (
        "Permutation Tests for Linear Models. Australian & New Zealand Journal of Statistics"
    )
    assert find(pairs, "Mourão-Miranda et al. 2012").positive.endswith("PLoS ONE")
    assert not any("{" in pair.positive or "\\" in pair.positive for pair in pairs)
    assert not any(".. " in pair.positive for pair in pairs)


def test_git_log_subjects_and_bodies() -> None:
    path = EXCERPTS / "libx11-git-log.txt.zst"
    lines = read_whole(path).decode("utf-8", "replace").split("\n")
    assert len(list(commits(path, BadRows()))) == sum(x.startswith("commit ") for x in lines) == 400
    pairs = list(read_pairs(path, format="git-log"))
    assert len(pairs) >= 200
    pair = find(pairs, "Change the data_len parameter of _XimAttributeToValue() to CARD16")
    assert pair.positive.startswith("It's coming from a length in the protocol (unsigned)")
    assert not any("Signed-off-by:" in pair.positive for pair in pairs)
    assert lines[int(pair.origin.rsplit(":", 1)[1]) - 1] == f"commit {pair.group}"


def test_gettext_catalogue_gives_every_translated_message() -> None:
    babel = pytest.importorskip("babel.messages.pofile")
    with open(EXCERPTS / "django-de.po", "rb") as stream:
        catalogue = babel.read_po(stream)
    expected = Counter()
    for message in catalogue:
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        texts = message.string if isinstance(message.string, tuple) else (message.string,)
        if message.id and texts[0] and not message.fuzzy:
            expected.update(zip(texts, ids, strict=True))
    pairs = read("django-de.po")
    assert Counter((pair.query, pair.positive) for pair in pairs) == expected
    assert len(pairs) >= 300
    entry = next(iter(po_entries(EXCERPTS / "django-de.po", BadRows())))
    assert "Content-Type: text/plain; charset=UTF-8" in entry.texts["msgstr"]


def test_tmx_gives_the_same_pairs_as_the_catalogue_it_was_made_of() -> None:
    from_tmx = {
        (" ".join(p.positive.split()), " ".join(p.query.split())) for p in read("django-de.tmx.zst")
    }
    from_po = {
        (" ".join(p.query.split()), " ".join(p.positive.split())) for p in read("django-de.po")
    }
    assert len(from_tmx & from_po) >= 300
    assert len(from_tmx - from_po) <= 0.02 * len(from_tmx)


def test_github_issues_as_the_api_gives_them() -> None:
    report = ReadReport()
    pairs = read("github-issues.json.zst", report)
    issues = json.loads(read_whole(EXCERPTS / "github-issues.json.zst"))
    assert len(issues) == 150
    assert len(pairs) + report.skipped["ticket without a description"] == 150
    assert len(pairs) >= 100
    titles = {" ".join(issue["title"].split()) for issue in issues}
    assert {" ".join(pair.query.split()) for pair in pairs} <= titles
    assert {"sigmavirus24/github3.py", "betamaxpy/betamax"} <= {pair.group for pair in pairs}


@pytest.fixture
def mailbox_file() -> Path:
    """Mail of two lists; it is not in the sdist (docs/decisions/013)."""
    path = EXCERPTS / "mailing-lists.mbox.zst"
    if not path.exists():
        pytest.skip("the excerpt of mail comes with the repository alone")
    return path


def test_mailbox_messages_threads_and_quotes(mailbox_file: Path) -> None:
    path = mailbox_file
    messages = list(mbox_messages(path, BadRows()))
    assert len(messages) == 263
    pairs = read("mailing-lists.mbox.zst")
    kinds = Counter(pair.kind for pair in pairs)
    assert kinds["title-body"] >= 50
    assert kinds["post-comment"] >= 50
    assert not any(line.startswith(">") for p in pairs for line in p.positive.split("\n"))
    assert not any(re.match(r"(?i)re:", pair.group) for pair in pairs)
    assert find(pairs, "Essai accentué").positive.startswith("Du texte accentué")


def test_mailbox_is_cut_as_the_standard_library_cuts_it(tmp_path: Path, mailbox_file: Path) -> None:
    import mailbox

    path = tmp_path / "box.mbox"
    path.write_bytes(read_whole(mailbox_file))
    box = mailbox.mbox(path, create=False)
    theirs = [message["message-id"] for message in box]
    box.close()
    import email

    ours = [
        email.message_from_bytes(raw)["message-id"] for _, raw in mbox_messages(path, BadRows())
    ]
    assert ours == theirs


def test_warc_gives_title_and_text_of_every_page() -> None:
    pytest.importorskip("warcio")
    pytest.importorskip("trafilatura")
    report = ReadReport()
    pairs = read("python-doc.warc.gz", report)
    assert len(pairs) == 112
    pair = find(pairs, "graphlib — Functionality to operate with graph-like structures")
    assert "Provides functionality to topologically sort a graph" in pair.positive
    assert not pair.positive.startswith("graphlib —")
    assert sum(report.skipped.values()) == 116  # requests, warcinfo, metadata, resource


LANGUAGES = {
    "c": ("Attach subtrees pLeft and pRight to the Expr node pRoot.", "void sqlite3ExprAttachSub"),
    "cpp": ("add an object to an array", "reference operator+=(const basic_json& val)"),
    "go": (
        "HasAvailablePersistentFlags checks if the command contains persistent flags which are "
        "not hidden or deprecated.",
        "func (c *Command) HasAvailablePersistentFlags() bool {",
    ),
    "java": (
        "Find the Levenshtein distance between two Strings.",
        "@Deprecated\npublic static int getLevenshteinDistance(",
    ),
    "javascript": ("This method returns a new empty object.", "function stubObject() {\n"),
    "php": ("Transforms array to ArrayList.", "public static function from(array $array)"),
    "ruby": (
        "Returns a copy of the enumerable excluding the specified elements.",
        "def excluding(*elements)\n  elements.flatten!(1)",
    ),
    "rust": (
        "Return an iterator adaptor that iterates over the k-length combinations of the elements "
        "from an iterator.",
        '#[cfg(feature = "use_alloc")]\nfn combinations(self, k: usize)',
    ),
    "typescript": (
        "Emits a given value if the source Observable completes without emitting any next value, "
        "otherwise mirrors the source Observable.",
        "export function defaultIfEmpty<T, R>(defaultValue: R)",
    ),
}


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_comments_and_functions_of_a_language(language: str, code: Path) -> None:
    pytest.importorskip("tree_sitter")
    pytest.importorskip(f"tree_sitter_{language}")
    report = ReadReport()
    pairs = list(read_source(code / language, report=report))
    assert len(pairs) >= 100, report
    query, start = LANGUAGES[language]
    assert any(pair.query == query and pair.positive.startswith(start) for pair in pairs)
    for pair in pairs:
        assert pair.query not in pair.positive or len(pair.query) < 40, pair.origin
        assert not re.search(r"/\*|\*/|^\s*[*/#]", pair.query), pair.origin
    sample = pairs[:: max(1, len(pairs) // 40)]
    if language in ("go", "ruby", "rust", "javascript"):  # whose functions parse on their own
        trees = [parser_of(language).parse(pair.positive.encode()) for pair in sample]
        assert sum(tree.root_node.has_error for tree in trees) <= 0.1 * len(trees)


def test_documents_of_source_code_hold_uncommented_functions_too(code: Path) -> None:
    pytest.importorskip("tree_sitter_go")
    pairs = list(read_source(code / "go"))
    functions = list(read_documents(code / "go"))
    assert len(functions) > len(pairs)
    declared = sum(
        len(re.findall(r"(?m)^func ", file.read_text())) for file in (code / "go").glob("*.go")
    )
    assert len(functions) == declared


@pytest.mark.parametrize(
    ("language", "kind", "least"),
    [
        ("markdown", "heading-section", 1000),
        ("rst", "heading-section", 200),
        ("notebook", "text-code", 40),
        ("notebook", "heading-section", 50),
        ("pdf", "heading-section", 90),
    ],
)
def test_sections_of_documents(language: str, kind: str, least: int, documents: Path) -> None:
    if language == "pdf":
        pytest.importorskip("pypdf")
    pairs = [pair for pair in read_source(documents / language) if pair.kind == kind]
    assert len(pairs) >= least
    assert len({(pair.query, pair.positive) for pair in pairs}) >= 0.9 * len(pairs)


def test_notebooks_hold_two_hundred_cells(documents: Path) -> None:
    files = sorted((documents / "notebook").glob("*.ipynb"))
    cells = [cell for f in files for cell in notebook_cells(f.read_bytes(), path=f.name)]
    assert len(cells) >= 200
    nbformat = pytest.importorskip("nbformat")
    for file in files:
        theirs = nbformat.read(file, as_version=4).cells
        ours = notebook_cells(file.read_bytes(), path=file.name)
        expected = [c.source for c in theirs if c.cell_type in ("markdown", "code")]
        assert [cell.text for cell in ours] == expected


def test_markdown_and_rst_headings_against_other_parsers(documents: Path) -> None:
    from markdown_it import MarkdownIt

    from opengte.data.readers.markdown import markdown_sections

    for file in sorted((documents / "markdown").glob("*.md")):
        text = file.read_text()
        body = text.split("\n---\n", 1)[1] if text.startswith("---\n") else text
        tokens = MarkdownIt().parse(body)
        theirs = [int(t.tag[1]) for t in tokens if t.type == "heading_open" and t.level == 0]
        ours = [s.level for s in markdown_sections(body) if s.heading]
        assert ours == theirs, file.name


def test_html_headings_are_those_of_lxml() -> None:
    html = pytest.importorskip("lxml.html")
    archive = pytest.importorskip("warcio.archiveiterator")
    from opengte.data.readers.html_sections import html_sections

    num_sections = 0
    with open(EXCERPTS / "python-doc.warc.gz", "rb") as stream:
        for number, record in enumerate(archive.ArchiveIterator(stream)):
            if record.rec_type != "response" or number % 3:
                continue
            content = record.content_stream().read()
            tree = html.fromstring(content)
            theirs = []
            for node in tree.xpath("//*[self::h1 or self::h2 or self::h3 or self::h4]"):
                if not node.xpath("ancestor::*[self::nav or self::header or @role='navigation']"):
                    theirs.append(" ".join(node.text_content().replace("¶", "").split()))
            sections = list(html_sections(content.decode("utf-8")))
            ours = [section.heading for section in sections if section.heading]
            assert [h for h in ours if h in theirs] == [h for h in theirs if h in ours]
            assert len(set(theirs) - set(ours)) == 0
            assert not any("Navigation" in section.text for section in sections[1:-1])
            num_sections += len(sections)
    assert num_sections >= 100


@pytest.mark.shared
def test_tatoeba_tables_without_a_header(shared_data: Path) -> None:
    path = shared_data / "eval" / "tatoeba" / "deu-eng.tsv.gz"
    pairs = list(read_pairs(path, format="parallel"))
    assert len(pairs) == 1000
    with pytest.raises(Exception, match="no fields of a pair"):
        list(read_pairs(path))


@pytest.mark.shared
def test_moses_files_give_the_same_pairs_as_the_table(shared_data: Path, tmp_path: Path) -> None:
    table = shared_data / "eval" / "tatoeba" / "fra-eng.tsv.gz"
    rows = [line.split("\t") for line in read_whole(table).decode().strip("\n").split("\n")]
    (tmp_path / "tatoeba.fr").write_text("".join(f"{row[0]}\n" for row in rows))
    (tmp_path / "tatoeba.en").write_text("".join(f"{row[1]}\n" for row in rows))
    ours = [(p.query, p.positive) for p in read_pairs(tmp_path / "tatoeba.fr", format="moses")]
    assert ours == [(p.query, p.positive) for p in read_pairs(table, format="parallel")]


@pytest.mark.shared
def test_labelled_sets_become_pairs(shared_data: Path) -> None:
    folder = shared_data / "eval"
    report = ReadReport()
    banking = folder / "banking77" / "test.jsonl"
    labels = list(read_pairs(banking, format="class-labels"))
    examples = list(read_pairs(banking, format="class-examples"))
    rows = [json.loads(line) for line in banking.read_text().splitlines()]
    label_of = {row["text"].strip(): str(row["label"]).replace("_", " ") for row in rows}
    assert len(labels) == len(examples) == len(rows)
    for pair in labels:
        assert pair.positive == label_of[pair.query]
        assert pair.positive not in pair.negatives
        assert len(set(pair.negatives)) == 7
    for pair in examples:
        assert label_of[pair.positive] == label_of[pair.query]
        assert pair.positive != pair.query
        assert all(label_of[text] != label_of[pair.query] for text in pair.negatives)
    assert examples == list(read_pairs(banking, format="class-examples"))
    sts = list(read_pairs(folder / "stsbenchmark" / "test.jsonl", format="sts", report=report))
    assert len(sts) + 2 * report.skipped["similarity under the threshold"] == 2 * 1379
    assert (sts[0].query, sts[0].positive) == (sts[1].positive, sts[1].query)


@pytest.mark.shared
def test_nli_joins_what_one_premise_entails_and_contradicts(shared_data: Path) -> None:
    path = next((shared_data / "eval" / "ocnli").glob("*.jsonl"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    names = {0: "entailment", 1: "neutral", 2: "contradiction"}
    given = Counter(names.get(row["label"], str(row["label"])) for row in rows)
    pairs = list(read_pairs(path, format="nli"))
    assert len(pairs) == given["entailment"]
    assert any(pair.negatives for pair in pairs)


def test_compressed_table_reads_as_the_plain_one(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "positive": "a\nb"} for n in range(3)]
    text = "query,positive\n" + "".join(f'{row["query"]},"a\nb"\n' for row in rows)
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "t.csv.zst").write_bytes(zstandard.compress(text.encode()))
    for name in ("t.csv", "t.csv.zst"):
        assert [row for _, row in read_csv_rows(tmp_path / name, BadRows())] == rows
