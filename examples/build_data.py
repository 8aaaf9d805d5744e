"""Openly licensed sources -> ``examples/data``: small files of every kind that opengte reads.

Enough for the examples, for tiny recipes and for a first look at the formats; too little for a
good model. Nothing here stands in the general slice, so that it stays a fair test.

    python examples/build_data.py --shared SHARED/data --wordnet /usr/share/wordnet

A function of the sources, ``SEED`` and the standard library of the Python that runs it; WordNet
3.0 is Debian's package ``wordnet-base``.
"""

from __future__ import annotations

import argparse
import ast
import io
import itertools
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
from wordnet_sentences import SIMILARITY, Change, changes, read_synsets

from opengte import atomic
from opengte.text.text_keys import jaccard, shingles, words

SEED = 4
ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "examples/data"
GENERAL = ROOT / "src/opengte/recipes/general"
MAX_WORDS = 120
HELD_OUT_WORDS = 60
NEAR = 0.5
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


def commands(shared: Path) -> Iterator[Row]:
    """English task descriptions, the command that does it, and commands of the same program."""
    english = re.compile(r"\b(the|a|an|with|from|and|using|specific)\b", re.IGNORECASE)
    by_program: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(shared, "tldr_commands"):
        if row["query"].isascii() and row["positive"].isascii() and english.search(row["query"]):
            by_program[row["positive"].split()[0]].append(row)
    for program, rows in by_program.items():
        distinct = list({row["positive"]: row for row in rows}.values())
        if len(distinct) >= NUM_COMMANDS:
            generator = random.Random(f"{SEED}/{program}")
            row = distinct[generator.randrange(len(distinct))]
            others = [other["positive"] for other in distinct if other is not row]
            wrong = generator.sample(others, NUM_COMMANDS - 1)
            texts = {"query": row["query"], "positive": row["positive"], "negatives": wrong}
            yield {**texts, "group": program}


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
    Part(
        "commands.jsonl",
        "(task, command, other commands of that program)",
        *(500, "CC-BY-4.0", "tldr pages (tldr-pages/tldr)", commands),
    ),
)
NUM_COMMANDS = 6
NUM_ASKED = 60
NUM_INFERENCES = (150, 600)
NUM_GRADED = (150, 500)
SEARCHED = ("title_body.jsonl", "question_answer.jsonl", "docstring_code.jsonl")


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


def left_over(
    part: Part, shared: Path, forbidden: set[str], trained: list[Row], count: int
) -> list[Row]:
    """``count`` rows that no training row is near to, and whose texts are all different."""
    seen = {normalised(row[side]) for row in trained for side in ("query", "positive")} | forbidden
    known = [shingles(words(row["positive"])) for row in trained]
    rows = list(part.rows(shared))
    kept: list[Row] = []
    for position in random.Random(f"{SEED}/held out/{part.file}").sample(
        range(len(rows)), len(rows)
    ):
        row = rows[position]
        texts = [normalised(row["query"]), normalised(row["positive"])]
        if len(row["positive"].split()) > HELD_OUT_WORDS or len(row["positive"]) > 700:
            continue
        own = shingles(words(row["positive"]))
        if seen & set(texts) or len(texts[0].split()) < 2:
            continue
        if any(jaccard(own, other) >= NEAR for other in known):
            continue
        kept.append(row)
        seen.update(texts)
        known.append(own)
        if len(kept) == count:
            return kept
    raise SystemExit(f"{part.file}: only {len(kept)} rows left for the held-out sets")


def write_retrieval(held: dict[str, list[Row]], out: Path) -> None:
    """A BEIR folder: half of the held-out rows are asked, all of them are searched."""
    corpus, queries, judged = [], [], ["query-id\tcorpus-id\tscore"]
    for file in SEARCHED:
        kind = file.removesuffix(".jsonl")
        for number, row in enumerate(held[file]):
            name = f"{kind}-{number}"
            corpus.append({"_id": name, "title": "", "text": row["positive"]})
            if number < NUM_ASKED:
                queries.append({"_id": f"q-{name}", "text": row["query"]})
                judged.append(f"q-{name}\t{name}\t1")
    atomic.write_text(out / "retrieval/corpus.jsonl", jsonl(corpus))
    atomic.write_text(out / "retrieval/queries.jsonl", jsonl(queries))
    atomic.write_text(out / "retrieval/qrels/test.tsv", "\n".join(judged) + "\n")


def write_reranking(held: list[Row], out: Path) -> None:
    """A task and six commands of one program, one of which does it."""
    rows = []
    for row in held:
        answers = [(row["positive"], 1), *((text, 0) for text in row["negatives"])]
        random.Random(f"{SEED}/{row['query']}").shuffle(answers)
        rows += [{"query": row["query"], "answer": text, "label": n} for text, n in answers]
    atomic.write_text(out / "reranking/test.jsonl", jsonl(rows))


def write_bitext(held: list[Row], out: Path) -> None:
    """Sentences and their translations, as MTEB's Tatoeba has them."""
    lines = [f"{row['query']}\t{row['positive']}" for row in held]
    atomic.write_text(out / "bitext/cmn-eng.tsv", "\n".join(lines) + "\n")


def write_wordnet(wordnet: Path, out: Path) -> None:
    """Inference and similarity from WordNet's sentences; none is in both train and test."""
    usable = re.compile(r"(?=(?:\S+ ){3})(?!.*\b(?:not?|never|without|every|all|any|each)\b)", re.I)
    made = [
        m for m in changes(read_synsets(wordnet), seed=str(SEED)) if usable.match(m[0].sentence)
    ]
    random.Random(f"{SEED}/wordnet").shuffle(made)
    labels = {"hypernym": "entailment", "synonym": "entailment"}
    labels |= {"hyponym": "neutral", "antonym": "contradiction"}
    num_test, num_train = NUM_INFERENCES
    inference = {
        label: [c for m in made for c in m if labels.get(c.relation) == label]
        for label in dict.fromkeys(labels.values())
    }
    seen: set[str] = set()
    for split, count in (("test", num_test), ("train", num_train)):
        rows, forbidden = [], frozenset(seen)
        for label, found in inference.items():
            fresh = [c for c in found if c.sentence not in forbidden]
            taken = fresh[: count // 3] if split == "test" else fresh[-(count // 3) :]
            rows += [
                {"sentence1": c.sentence, "sentence2": c.changed, "label": label} for c in taken
            ]
            seen.update(c.sentence for c in taken)
        random.Random(f"{SEED}/{split}").shuffle(rows)
        atomic.write_text(out / f"nli/{split}.jsonl", jsonl(rows))
    graded = [m for m in made if m[0].sentence not in seen]
    _write_similarity(graded, out)


def _write_similarity(made: list[list[Change]], out: Path) -> None:
    """One change of each sentence; relations in turn, and sentences that have nothing in common."""
    num_test, num_train = NUM_GRADED
    rows = []
    for relation, (change, other) in zip(_in_turn(made), itertools.pairwise(made), strict=False):
        found = {c.relation: c for c in change}
        if relation == "other":
            rows.append((change[0].sentence, other[0].sentence, SIMILARITY["other"]))
        else:
            rows.append((change[0].sentence, found[relation].changed, SIMILARITY[relation]))
    test, train = rows[:num_test], rows[num_test + 1 : num_test + 1 + num_train]
    atomic.write_text(
        out / "sts/test.jsonl",
        jsonl({"sentence1": a, "sentence2": b, "score": 5 * s} for a, b, s in test),
    )
    atomic.write_text(
        out / "pairs/graded.jsonl",
        jsonl({"query": a, "positive": b, "score": s} for a, b, s in train),
    )


def _in_turn(made: list[list[Change]]) -> Iterator[str]:
    """Of the relations that a sentence offers the one that was taken least often."""
    taken = dict.fromkeys(SIMILARITY, 0)
    for found in made:
        offered = {c.relation for c in found} & set(SIMILARITY) | {"other"}
        relation = min(sorted(offered), key=lambda name: taken[name])
        taken[relation] += 1
        yield relation


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
            f"| pairs/graded.jsonl | {NUM_GRADED[1]} | (sentence, one word changed, similarity) | "
            f"WordNet-3.0 | {WORDNET} |",
            "| nli/train.jsonl, test.jsonl | 600, 150 | sentence1, sentence2, "
            f"entailment / neutral / contradiction | WordNet-3.0 | {WORDNET} |",
            f"| sts/test.jsonl | {NUM_GRADED[0]} | sentence1, sentence2, 0 to 5 | WordNet-3.0 "
            f"| {WORDNET} |",
            f"| retrieval/ | {3 * NUM_ASKED} queries, {6 * NUM_ASKED} documents | held out: BEIR "
            "folder | as title_body, question_answer, docstring_code | rows that those files "
            "do not hold |",
            "| reranking/test.jsonl | 100 queries | held out: query, answer, 1 or 0 | CC-BY-4.0 "
            "| tldr pages: programs that commands.jsonl does not hold |",
            "| bitext/cmn-eng.tsv | 150 | held out: Chinese, English | CC-BY-2.0-FR | Tatoeba |",
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
            "WordNet Release 3.0, Copyright 2006 by Princeton University; its licence stands in",
            "`wordnet_licence.txt`. What a changed word does to the meaning is read off WordNet's",
            "relations, not judged by people: enough to try a loss, too little to trust a score.",
            "",
        ]
    )


WORDNET = "WordNet's example sentences and relations"


def main() -> None:
    """Build everything, say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with pairs/ and eval/")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    forbidden = held_out()
    held: dict[str, list[Row]] = {}
    sizes = {**dict.fromkeys(SEARCHED, 2 * NUM_ASKED), "commands.jsonl": 100}
    sizes["translation_zh_en.jsonl"] = 150
    for part in PARTS:
        rows = chosen(part, options.shared, forbidden)
        atomic.write_text(options.out / "pairs" / part.file, jsonl(rows))
        if part.file in sizes:
            size = sizes[part.file]
            held[part.file] = left_over(part, options.shared, forbidden, rows, size)
    write_retrieval(held, options.out)
    write_reranking(held["commands.jsonl"], options.out)
    write_bitext(held["translation_zh_en.jsonl"], options.out)
    write_wordnet(options.wordnet, options.out)
    licence = ROOT / "benchmarks/general_slice/wordnet_licence.txt"
    atomic.write_bytes(options.out / "wordnet_licence.txt", licence.read_bytes())
    write_classification(options.shared, options.out)
    write_documents(options.shared, options.out)
    atomic.write_text(options.out / "SOURCES.md", sources())
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"{options.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
