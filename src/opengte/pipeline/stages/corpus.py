"""The corpus stage: raw files -> ``train.jsonl``, ``dev/`` and ``test/``.

Embedded sources (installed packages) and the user's own are read by the same readers. Where the
user gave paths, dev and test come from them alone and the packages only help to train.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opengte.atomic import atomic_folder
from opengte.contracts import Progress
from opengte.data.near_duplicates import overlap
from opengte.data.readers import read_pairs
from opengte.data.readers.report import ReadReport
from opengte.data.readers.tree import SourceFile, language_of, read_tree
from opengte.data.writers import write_documents, write_pairs
from opengte.errors import DataError
from opengte.pipeline.corpus.collect import Collected, collect, package_of, regroup
from opengte.pipeline.corpus.gather import (
    files_fingerprint,
    package_files,
    package_versions,
    standard_library_files,
)
from opengte.pipeline.corpus.held_out import HeldOut, build_held_out
from opengte.pipeline.corpus.names import mask_share
from opengte.pipeline.corpus.questions import read_questions, searches_of_questions
from opengte.pipeline.corpus.split import hold_out, row_components
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import CorpusStage
from opengte.records import Document, Pair

HEADLINE_KIND = "docstring-code"
MINIMUM_PAIRS = 60
EMBEDDED = "packages"
"""Prefix of the kinds of pairs that help to train and are never asked about."""


def run(config: CorpusStage, context: StageContext) -> Mapping[str, Any]:
    """Read, split, write; the facts are what the report says about the corpus."""
    embedded, own, fingerprint = _read(config, context)
    asked = own if config.paths else embedded
    helpers = embedded if config.paths else Collected()
    pairs = regroup(_capped(asked.pairs, config.max_pairs, seed=context.seed))
    _check_size(pairs, asked.report, config)
    helping = [replace(pair, kind=f"{EMBEDDED}/{pair.kind}") for pair in helpers.pairs]
    helping = _capped(helping, config.max_pairs, seed=context.seed)
    names = {**helpers.names, **asked.names}
    corpus = _split(pairs, helping, asked, names, config, context.seed)
    facts = {
        "fingerprint": fingerprint,
        "files": asked.report.read["files"],
        "pairs_read": _kinds(asked.pairs),
        "skipped": dict(asked.report.skipped.most_common()),
        "skipped_examples": asked.report.examples,
        "num_train_pairs": len(corpus.train),
        "train_pairs": _kinds(corpus.train),
        "train_groups": len({pair.group for pair in corpus.train}),
        "num_dropped_near_duplicates": corpus.num_dropped,
        "num_test_queries": len(corpus.test.queries),
        "num_dev_queries": len(corpus.dev.queries),
        "num_pool_documents": len(corpus.test.documents),
        "test_groups": dict(Counter(query.group for query in corpus.test.queries)),
        "dev_groups": dict(Counter(query.group for query in corpus.dev.queries)),
        "slices": {name: len(ids) for name, ids in corpus.test.slices.items()},
        "overlap": _overlap(corpus),
    }
    _tell(facts, context)
    with atomic_folder(context.output) as folder:
        write_pairs(folder / "train.jsonl", corpus.train)
        corpus.dev.write(folder / "dev", "dev")
        corpus.test.write(folder / "test", "test")
        write_documents(folder / "documents.jsonl", _searchable(corpus, asked, config))
    return facts


def _searchable(corpus: Corpus, asked: Collected, config: CorpusStage) -> list[Document]:
    """What the index holds: the test pool, and everything of the user's own."""
    own = [*_documents(asked.pairs), *asked.undocumented] if config.paths else []
    unique = {document.text: document for document in (*own, *corpus.test.documents)}
    named = list(unique.values())[: config.index_documents]
    return [replace(document, id=f"{document.origin}#{n}") for n, document in enumerate(named)]


def external_inputs(config: CorpusStage) -> Mapping[str, Any]:
    """Versions of the packages and contents of the user's files."""
    inputs: dict[str, Any] = {
        "packages": package_versions(config.packages, standard_library=config.standard_library)
    }
    if config.paths:
        inputs["paths"] = files_fingerprint(_path_files(config.paths, ReadReport()))
    if config.queries:
        inputs["queries"] = files_fingerprint([_one_file(Path(config.queries))])
    return inputs


@dataclass(frozen=True)
class Corpus:
    """The parts of a corpus, ready to be written."""

    train: list[Pair]
    dev: HeldOut
    test: HeldOut
    num_dropped: int


def _read(config: CorpusStage, context: StageContext) -> tuple[Collected, Collected, str]:
    """What the packages gave, what the user's paths gave, and a fingerprint of both."""
    files: list[SourceFile] = standard_library_files() if config.standard_library else []
    installed, absent = _installed(config.packages)
    for name in installed:
        files.extend(package_files(name, seed=context.seed))
    if absent:
        context.console.line(f"  not installed, so not read: {', '.join(absent)}")
    label = context.console.progress("reading source files", unit="files")
    embedded = collect(files, minimum_statements=config.minimum_statements, progress=label)
    own = _read_paths(config, context.console.progress("reading your files", unit="files"))
    fingerprint = files_fingerprint([*files, *_path_files(config.paths, ReadReport())])
    return embedded, own, fingerprint


def _installed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages that are there, and those that are not.

    A dependency's dependency may go with its next version; that must not stop a run. Where none
    of several is there, all count as there, so that reading the first says what is wrong.
    """
    versions = package_versions(names, standard_library=False)
    absent = [name for name in names if name not in versions]
    return (list(versions), absent) if versions else (list(names), [])


def _read_paths(config: CorpusStage, progress: Progress) -> Collected:
    own = Collected()
    tables = [Path(path) for path in config.paths if _is_pair_file(Path(path))]
    for path in tables:
        for pair in read_pairs(path, report=own.report):
            origin = pair.origin or f"{path.name}:{len(own.pairs) + 1}"
            kind = pair.kind or path.name.split(".")[0]
            own.pairs.append(replace(pair, origin=origin, kind=kind, group=pair.group or origin))
    trees = [path for path in config.paths if not _is_pair_file(Path(path))]
    if trees:
        files = list(read_tree(trees, report=own.report))
        minimum = config.minimum_statements
        own.merge(collect(files, minimum_statements=minimum, progress=progress))
        own.report.read["files"] = len(files) + len(tables)
    return own


def _path_files(paths: Sequence[str], report: ReadReport) -> list[SourceFile]:
    tables = [_one_file(Path(path)) for path in paths if _is_pair_file(Path(path))]
    trees = [path for path in paths if not _is_pair_file(Path(path))]
    return tables + (list(read_tree(trees, report=report)) if trees else [])


def _one_file(path: Path) -> SourceFile:
    if not path.is_file():
        raise DataError("no such file", path=path)
    return SourceFile(path, path.name, "pairs", path.name, path.stat().st_size)


def _is_pair_file(path: Path) -> bool:
    """A file given directly that is no source and no prose holds pairs."""
    return path.is_file() and language_of(path) is None


def _capped(pairs: Sequence[Pair], number: int, *, seed: int) -> list[Pair]:
    """At most ``number`` of ``pairs``, drawn evenly over kinds and then groups.

    Exact copies of a pair are one. A kind or a group that has few gives all it has.
    """
    unique = list({(pair.query, pair.positive): pair for pair in reversed(pairs)}.values())[::-1]
    if len(unique) <= number:
        return unique
    order = list(range(len(unique)))
    random.Random(seed).shuffle(order)
    turns: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, int, int]] = []
    for position in order:
        pair = unique[position]
        key = (pair.kind, pair.group)
        ranked.append((turns[key], len(ranked), position))
        turns[key] += 1
    ranked.sort()
    return [unique[position] for position in sorted(p for _, _, p in ranked[:number])]


def _check_size(pairs: Sequence[Pair], report: ReadReport, config: CorpusStage) -> None:
    if len(pairs) >= MINIMUM_PAIRS:
        return
    where = ", ".join(config.paths) or "the packages"
    skipped = ", ".join(f"{n} x {reason}" for reason, n in report.skipped.most_common(4))
    raise DataError(
        f"{where}: only {len(pairs)} pairs of a description and a text were found, "
        f"{MINIMUM_PAIRS} are needed (skipped: {skipped or 'nothing'}); "
        "give more files, or a JSONL file of pairs"
    )


def _split(
    pairs: list[Pair],
    helping: list[Pair],
    asked: Collected,
    names: Mapping[str, str],
    config: CorpusStage,
    seed: int,
) -> Corpus:
    every = pairs + helping
    components = row_components(every, names, threshold=config.near_duplicate_threshold)
    askable = _askable(pairs, config.test_queries + config.dev_queries)
    num_test = 1 if config.queries else config.test_queries
    split = hold_out(
        pairs,
        components[: len(pairs)],
        askable,
        num_test=num_test,
        num_dev=config.dev_queries,
        embedded=not config.paths,
        seed=seed,
    )
    held = set(components[[*split.dev.tolist(), *split.test.tolist()]].tolist())
    train = [pairs[i] for i in split.train.tolist()]
    train += [
        pair
        for pair, component in zip(helping, components[len(pairs) :].tolist(), strict=True)
        if component not in held
    ]
    seen = frozenset(package_of(pair.group) for pair in train)
    parts: dict[str, HeldOut] = {}
    sizes = {
        "dev": (split.dev, config.dev_queries, config.dev_pool_documents),
        "test": (split.test, config.test_queries, config.pool_documents),
    }
    for name, (rows, num_queries, num_documents) in sizes.items():
        positions = rows.tolist()
        distractors = _distractors(pairs, positions, components, askable, asked, seed)
        parts[name] = build_held_out(
            [pairs[i] for i in positions if askable[i]],
            distractors,
            num_queries=num_queries,
            num_documents=num_documents,
            names=asked.names,
            seen_packages=seen,
            seed=seed,
        )
    test = parts["test"]
    if config.queries:
        questions = read_questions(Path(config.queries))
        test = searches_of_questions(
            questions, [*_documents(pairs), *asked.undocumented], limit=config.pool_documents
        )
        asked_texts = {question.text for question in questions}
        train = [pair for pair in train if pair.query not in asked_texts]
    dropped = len(every) - len(train) - len(split.dev) - len(split.test)
    train = mask_share(train, names, config.masked_names, seed=seed)
    return Corpus(train, parts["dev"], test, dropped)


def _askable(pairs: Sequence[Pair], wanted: int) -> list[bool]:
    """Whether a row can be asked about: functions where there are enough, else any kind."""
    functions = [pair.kind == HEADLINE_KIND for pair in pairs]
    enough = sum(functions) >= min(wanted * 2, len(pairs) // 2)
    return functions if enough else [True] * len(pairs)


def _distractors(
    pairs: Sequence[Pair],
    held_out: Sequence[int],
    components: Any,
    askable: Sequence[bool],
    asked: Collected,
    seed: int,
) -> list[Document]:
    """Documents that answer no held-out query: those of the same groups first."""
    own = {pairs[i].group for i in held_out}
    undocumented = list(asked.undocumented)
    random.Random(seed).shuffle(undocumented)
    undocumented.sort(key=lambda document: document.group not in own)
    if undocumented:
        return undocumented
    inside = set(held_out)
    taken = {int(components[i]) for i in inside}
    others = [
        pair
        for i, pair in enumerate(pairs)
        if i not in inside and int(components[i]) not in taken and askable[i]
    ]
    random.Random(seed).shuffle(others)
    return _documents(others)


def _documents(pairs: Iterable[Pair]) -> list[Document]:
    return [
        Document(f"{pair.origin}#{n}", pair.positive, "", pair.group, pair.kind, pair.origin)
        for n, pair in enumerate(pairs)
    ]


def _overlap(corpus: Corpus) -> dict[str, int]:
    """Test queries and answers, named and masked, that stand in the training texts.

    The split makes both counts 0.
    """
    train = [pair.query for pair in corpus.train] + [pair.positive for pair in corpus.train]
    answers = {doc for judged in corpus.test.qrels.values() for doc in judged}
    test = [query.text for query in corpus.test.queries]
    test += [document.text for document in corpus.test.documents if document.id in answers]
    found = overlap(train, [*test, *corpus.test.masked.values()])
    return {"exact": found.exact, "near": found.near}


def _kinds(pairs: Iterable[Pair]) -> dict[str, int]:
    return dict(Counter(pair.kind for pair in pairs).most_common())


def _tell(facts: Mapping[str, Any], context: StageContext) -> None:
    console = context.console
    sources = ", ".join(f"{name} {count:,}" for name, count in facts["train_pairs"].items())
    console.line(f"  corpus {facts['fingerprint']}: {facts['files']:,} files")
    console.line(f"  train: {facts['num_train_pairs']:,} pairs ({sources})")
    console.line(
        f"  test: {facts['num_test_queries']} queries of {len(facts['test_groups'])} held-out "
        f"groups among {facts['num_pool_documents']:,} documents; overlap with train: "
        f"{facts['overlap']['exact']} exact, {facts['overlap']['near']} near"
    )
    if facts["skipped"]:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in list(facts["skipped"].items())[:6])
        console.line(f"  skipped: {reasons}")


def load_train_pairs(folder: Path) -> list[Pair]:
    """The training pairs a corpus or mining stage wrote."""
    return list(read_pairs(folder / "train.jsonl"))


def load_slices(folder: Path) -> dict[str, Any]:
    """Slices and groups of the queries of a held-out set."""
    loaded: dict[str, Any] = json.loads((folder / "slices.json").read_text(encoding="utf-8"))
    return loaded
