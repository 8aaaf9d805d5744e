"""Openly licensed sources -> ``examples/data``: small files of every kind that opengte reads.

Enough for the examples, for tiny recipes and for a first look at the formats; too little for a
good model. Nothing here stands in the general slice, so that it stays a fair test.

    python examples/build_data.py --shared SHARED/data

A function of the sources, ``SEED`` and the standard library of the Python that runs it.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import platform
import random
import re
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from opengte import atomic

SEED = 4
ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "examples/data"
GENERAL = ROOT / "src/opengte/recipes/general"
MAX_WORDS = 120
Row = dict[str, Any]

MODULES = (
    *("bisect", "calendar", "colorsys", "fnmatch", "fractions", "getpass", "graphlib", "heapq"),
    *("netrc", "queue", "sched", "shelve", "string", "textwrap", "zipapp"),
)
INTENTS = (
    *("activate_my_card", "age_limit", "cancel_transfer", "card_arrival", "change_pin"),
    *("exchange_rate", "lost_or_stolen_card", "passcode_forgotten", "refund_not_showing_up"),
    *("terminate_account", "top_up_by_card_charge", "verify_my_identity"),
)


@dataclass(frozen=True)
class Part:
    """One file of pairs: where its rows come from and who may use them."""

    file: str
    kind: str
    num_rows: int
    licence: str
    origin: str
    rows: Callable[[Path], Iterable[Row]]


def rows_of(shared: Path, name: str) -> Iterator[Row]:
    """The rows of one zstd-compressed JSONL file of pairs."""
    with (shared / f"pairs/{name}.jsonl.zst").open("rb") as raw:
        plain = zstandard.ZstdDecompressor().stream_reader(raw)
        for line in io.TextIOWrapper(plain, encoding="utf-8"):
            yield json.loads(line)


def title_body(shared: Path) -> Iterator[Row]:
    """Section headings of the Python Enhancement Proposals and what stands below them."""
    return (row for row in rows_of(shared, "peps_sections") if len(row["positive"].split()) > 20)


def question_answer(shared: Path) -> Iterator[Row]:
    """Health questions and answers."""
    return rows_of(shared, "medquad")


def negatives(shared: Path) -> Iterator[Row]:
    """Trivia questions, the right answer, and the wrong options."""
    vague = re.compile(r"these|none|all |above|true|false", re.IGNORECASE)
    return (r for r in rows_of(shared, "opentriviaqa") if not vague.search(r["positive"]))


def translation(shared: Path) -> Iterator[Row]:
    """Chinese sentences and their English translations."""
    return rows_of(shared, "tatoeba_cmn_en")


def labelled(shared: Path) -> Iterator[Row]:
    """Claims with sentences that settle them (1) and sentences that do not (0)."""
    for row in rows_of(shared, "climate_fever"):
        yield {"query": row["query"], "positive": row["positive"], "score": 1.0}
        for text in row.get("negatives", ())[:1]:
            yield {"query": row["query"], "positive": text, "score": 0.0}


def docstring_code(_: Path) -> Iterator[Row]:
    """First paragraphs of docstrings and the functions they stood in, without them."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    skipped = ("test", "tests", "idlelib", "lib2to3", "distutils", "site-packages")
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if not set(name.split("/")) & set(skipped):
            yield from documented_functions(path.read_bytes(), name)


def documented_functions(source: bytes, name: str) -> Iterator[Row]:
    """The functions of one module that have a docstring and at least three statements."""
    text = source.decode("utf-8", "replace")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None or len(node.body) < 4 or len(docstring.split()) < 5:
            continue
        above, below = lines[node.lineno - 1 : node.body[0].lineno - 1], node.body[0].end_lineno
        code = [*above, *lines[below : node.end_lineno]]
        indent = len(code[0]) - len(code[0].lstrip())
        yield {
            "query": " ".join(docstring.split("\n\n")[0].split()),
            "positive": "\n".join(line[indent:] for line in code),
            "group": name.split("/")[0].removesuffix(".py"),
            "origin": f"{name}:{node.lineno}",
        }


PARTS = (
    Part(
        "title_body.jsonl",
        "(title, body)",
        *(500, "public domain / CC0-1.0", "python/peps: headings and sections", title_body),
    ),
    Part(
        "question_answer.jsonl",
        "(question, answer)",
        *(600, "CC-BY-4.0", "MedQuAD (abachaa/MedQuAD)", question_answer),
    ),
    Part(
        "docstring_code.jsonl",
        "(docstring, function)",
        *(600, "PSF-2.0", "the standard library of CPython", docstring_code),
    ),
    Part(
        "translation_zh_en.jsonl",
        "(Chinese, English)",
        *(800, "CC-BY-2.0-FR", "Tatoeba (tatoeba.org)", translation),
    ),
    Part(
        "labelled.jsonl",
        "(claim, sentence, 1 or 0)",
        *(600, "CC-BY-SA-4.0", "Climate-FEVER (tdiggelm/climate-fever-dataset)", labelled),
    ),
    Part(
        "triples.jsonl",
        "(question, answer, wrong answers)",
        *(600, "CC-BY-SA-4.0", "OpenTriviaQA (uberspot/OpenTriviaQA)", negatives),
    ),
)


def held_out() -> set[str]:
    """Every text of the general slice, and no example may hold one of them."""
    lines = [
        line
        for name in ("corpus.jsonl", "queries.jsonl")
        for line in (GENERAL / name).read_text("utf-8").splitlines()
    ]
    return {normalised(json.loads(line)["text"]) for line in lines}


def normalised(text: str) -> str:
    """What two texts share when a reader would call them the same."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def chosen(part: Part, shared: Path, forbidden: set[str]) -> list[Row]:
    """``num_rows`` rows of a part, short, without doubles, in their order of origin."""
    kept: dict[tuple[str, str], Row] = {}
    for row in part.rows(shared):
        texts = row["query"], row["positive"]
        if any(len(text.split()) > MAX_WORDS or len(text) > 1500 for text in texts):
            continue
        if not any(normalised(text) in forbidden for text in texts):
            kept.setdefault(texts, row)
    rows = list(kept.values())
    picked = sorted(random.Random(f"{SEED}/{part.file}").sample(range(len(rows)), part.num_rows))
    return [rows[position] for position in picked]


def jsonl(rows: Iterable[Row]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_classification(shared: Path, out: Path) -> None:
    """Questions to a bank by intent: 40 of each of twelve intents to train on, 20 to test."""
    for split, num_each in (("train", 40), ("test", 20)):
        lines = (shared / f"eval/banking77/{split}.jsonl").read_text("utf-8").splitlines()
        by_label: dict[str, list[Row]] = defaultdict(list)
        for row in map(json.loads, lines):
            by_label[row["label"].lower()].append({"text": row["text"], "label": row["label"]})
        rows = [row for label in INTENTS for row in by_label[label.lower()][:num_each]]
        atomic.write_text(out / f"classification/{split}.jsonl", jsonl(rows))


def write_documents(shared: Path, out: Path) -> None:
    """A folder as a user has it: Markdown by country, Markdown by proposal, Python modules."""
    countries = sections(rows_of(shared, "cia_factbook"), separator=": ")
    proposals = sections(rows_of(shared, "peps_sections"), separator=": ")
    for folder, pages, count in (("countries", countries, 40), ("proposals", proposals, 25)):
        usable = sorted(t for t, parts in pages.items() if 6 <= len(parts) <= 120)
        for title in sorted(random.Random(f"{SEED}/{folder}").sample(usable, count)):
            name = re.sub(r"\W+", "-", title.lower()).strip("-")[:60]
            body = "\n\n".join(f"## {head}\n\n{text}" for head, text in pages[title][:40])
            atomic.write_text(out / f"documents/{folder}/{name}.md", f"# {title}\n\n{body}\n")
    library = Path(sysconfig.get_paths()["stdlib"])
    for module in MODULES:
        source = (library / f"{module}.py").read_bytes()
        atomic.write_bytes(out / f"documents/library/{module}.py", source)


def sections(rows: Iterable[Row], *, separator: str) -> dict[str, list[tuple[str, str]]]:
    """Title to its (heading, text) parts, from rows whose query is ``TITLE: HEADING``."""
    pages: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        title, found, heading = row["query"].partition(separator)
        if found and title.isascii():
            pages[title].append((heading, row["positive"]))
    return pages


def sources() -> str:
    """SOURCES.md: each file, its form, where it comes from and under which licence."""
    lines = [
        "# Where the examples come from",
        "",
        "Made by `examples/build_data.py`; nothing was written by hand. Pairs are JSONL with",
        "`query` and `positive`; `negatives`, `score`, `group` and `origin` where there are any.",
        "",
        "| file | rows | holds | licence | origin |",
        "|---|---|---|---|---|",
    ]
    for part in PARTS:
        lines.append(
            f"| pairs/{part.file} | {part.num_rows} | {part.kind} | {part.licence} "
            f"| {part.origin} |"
        )
    return "\n".join(
        [
            *lines,
            "| classification/train.jsonl, test.jsonl | 480, 240 | text, label: 12 intents | "
            "CC-BY-4.0 | BANKING77 (PolyAI-LDN/task-specific-datasets) |",
            "| documents/countries/ | 40 files | Markdown | public domain | CIA World Factbook |",
            "| documents/proposals/ | 25 files | Markdown | public domain / CC0-1.0 "
            "| python/peps |",
            f"| documents/library/ | {len(MODULES)} files | Python | PSF-2.0 "
            "| the standard library of CPython |",
            "",
            f"The standard library is that of CPython {platform.python_version()},",
            "Copyright (c) 2001 Python Software Foundation; All Rights Reserved. Its licence:",
            "<https://docs.python.org/3/license.html>.",
            "",
        ]
    )


def main() -> None:
    """Build everything, say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with pairs/ and eval/")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    forbidden = held_out()
    for part in PARTS:
        rows = chosen(part, options.shared, forbidden)
        atomic.write_text(options.out / "pairs" / part.file, jsonl(rows))
    write_classification(options.shared, options.out)
    write_documents(options.shared, options.out)
    atomic.write_text(options.out / "SOURCES.md", sources())
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"{options.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
