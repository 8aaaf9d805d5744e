"""Any bytes: pairs, documents, or a ``DataError``; never another exception, never a hang."""

from __future__ import annotations

import bz2
import gzip
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opengte.data.readers import PAIR_FORMATS, ReadReport, read_pairs, read_source
from opengte.data.readers.code_comments import GRAMMARS
from opengte.data.readers.lines import read_whole
from opengte.data.readers.tree import LANGUAGES
from opengte.errors import DataError

EXCERPTS = Path(__file__).parents[2] / "data" / "readers"

SEEDS = {
    "bibtex": "nilearn-references.bib",
    "git-log": "libx11-git-log.txt.zst",
    "json": "github-issues.json.zst",
    "mbox": "mailing-lists.mbox.zst",
    "po": "django-de.po",
    "tmx": "django-de.tmx.zst",
    "warc": "python-doc.warc.gz",
    "wikipedia": "enwiki-pages.xml.bz2",
}
WRITTEN = {
    "beir": b"",
    "class-labels": b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n',
    "csv": b'query,positive\n"a ""b""",c\n',
    "dbpedia": b'<http://a/B> <http://schema.org/description> "c\\u00e9"@en .\n',
    "jira-xml": b"<rss><item><summary>a</summary><description>b</description></item></rss>",
    "jsonl": b'{"query": "a", "positive": "b", "negatives": ["c"], "score": 0.5}\n',
    "nli": b'{"premise": "a", "hypothesis": "b", "label": "entailment"}\n',
    "parallel": b"a\tb\n",
    "reddit": b'{"id": "1", "title": "a", "selftext": "b", "score": 1, "subreddit": "c"}\n',
    "stack-exchange": b'<posts><row Id="1" PostTypeId="1" Title="a" Body="b" Score="1"/></posts>',
    "sts": b'{"sentence1": "a", "sentence2": "b", "score": 4.5}\n',
    "web-page": b"<html><head><title>a</title></head><body><p>b</p></body></html>",
    "wikidata": b'[\n{"labels": {"en": {"value": "a"}}, "descriptions": {}, "claims": {}},\n]\n',
}
NEEDS = {"warc": ("warcio", "trafilatura"), "web-page": ("trafilatura",)}
EXAMPLES = {"warc": 12}  # each extracts the main text of whole pages


def seed_of(format: str) -> bytes:
    if format in SEEDS and (EXCERPTS / SEEDS[format]).exists():
        return read_whole(EXCERPTS / SEEDS[format])[:20_000]
    return WRITTEN.get(format, b"")


@st.composite
def damaged(draw: st.DrawFn, seed: bytes) -> bytes:
    """A piece of a sound file with bytes put in, taken out and overwritten."""
    start = draw(st.integers(0, max(0, len(seed) - 2000)))
    content = bytearray(seed[start : start + 3000] if draw(st.booleans()) else seed[:3000])
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(content)


def read_anything(content: bytes, format: str, name: str = "file.bin") -> None:
    messages = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        for policy in ("error", "skip"):
            try:
                for pair in read_pairs(path, format=format, on_bad_row=policy):
                    assert pair.query
                    assert pair.positive
                    (pair.query + pair.positive).encode("utf-8")
            except DataError as error:
                messages.append(str(error))
    assert not any("\n" in message for message in messages)


FORMATS = sorted(set(PAIR_FORMATS) - {"source", "beir", "tevatron-ids", "moses"})


@pytest.mark.parametrize("format", FORMATS)
def test_any_bytes_give_pairs_or_a_data_error(
    format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for package in NEEDS.get(format, ()):
        pytest.importorskip(package)
    seed = seed_of(format)
    contents = st.binary(max_size=400) if not seed else st.one_of(st.binary(), damaged(seed))

    @settings(
        max_examples=EXAMPLES.get(format, 25),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=contents)
    def any_bytes(content: bytes) -> None:
        read_anything(content, format)

    any_bytes()
    assert capfd.readouterr() == ("", ""), "readers report; they do not print"


@settings(max_examples=30, deadline=None)
@given(
    content=damaged(WRITTEN["jsonl"] * 20),
    how=st.sampled_from([gzip.compress, bz2.compress, zstandard.compress]),
    cut=st.integers(0, 60),
)
def test_damaged_compression_gives_pairs_or_a_data_error(content, how, cut) -> None:  # type: ignore[no-untyped-def]
    packed = how(content)
    read_anything(packed[: max(0, len(packed) - cut)], "auto", "file.jsonl.gz")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_file_of_a_tree_is_read_or_counted(
    data: st.DataObject, documents: dict[str, bytes]
) -> None:
    suffix = data.draw(st.sampled_from(sorted(LANGUAGES)))
    language = LANGUAGES[suffix]
    if language in GRAMMARS:
        pytest.importorskip(GRAMMARS[language][0])
    seed = documents.get(language, b"text\n====\n\n* more `text` here\n\n```\ncode\n")
    content = data.draw(st.one_of(st.binary(max_size=300), damaged(seed)))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"file{suffix}").write_bytes(content)
        messages = ["nothing to read here"]
        try:
            for pair in read_source(folder):
                (pair.query + pair.positive).encode("utf-8")
        except DataError as error:
            messages.append(str(error))
    assert "nothing to read here" in messages[-1]


@pytest.fixture(scope="module")
def documents() -> dict[str, bytes]:
    """The first file of each language among the excerpts."""
    found: dict[str, bytes] = {}
    for name in ("code", "documents"):
        with tarfile.open(EXCERPTS / f"{name}.tar.xz") as archive:
            for member in archive:
                stream = archive.extractfile(member)
                language = LANGUAGES.get(Path(member.name).suffix, "")
                if stream is not None and language not in found:
                    found[language] = stream.read()[:30_000]
    return found


def test_hostile_nesting_is_no_crash(tmp_path: Path) -> None:
    deep = 200_000
    for name, content in {
        "a.jsonl": b'{"query": ' + b"[" * deep,
        "b.jsonl": b'{"query": "q", "positive": "p", "x": ' + b'{"a":' * deep,
        "c.json": b"[" * deep,
        "d.bib": b"@a{b, c = " + b"{" * deep,
        "e.tmx": b"<tu>" * 20_000,
        "f.ttl": b"<" * deep,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            list(read_pairs(tmp_path / name))


@pytest.mark.parametrize("suffix", [".py", ".md", ".rst", ".html", ".js", ".go", ".ipynb"])
def test_hostile_sources_are_read_or_counted(suffix: str, tmp_path: Path) -> None:
    for number, content in enumerate(
        [b"(" * 20_000, b"[" * 20_000, b"{" * 20_000, b"<div>" * 20_000, b"> " * 20_000,
         b"* " * 20_000, b"`" * 20_001, b"_a" * 20_000, b"[a](" * 10_000]
    ):  # fmt: skip
        lines = b"\n".join(content[i : i + 80] for i in range(0, len(content), 80))
        (tmp_path / f"{number}{suffix}").write_bytes(lines)
    report = ReadReport()
    list(read_source(tmp_path, report=report))
    assert report.read["files"] == 9
