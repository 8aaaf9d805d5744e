"""Files to read -> pairs, functions for the pool, and an account of what was left out."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from opengte.contracts import Progress
from opengte.data.readers.python_pairs import read_python_file
from opengte.data.readers.report import ReadReport
from opengte.data.readers.source import read_file
from opengte.data.readers.tree import SourceFile
from opengte.records import Document, Pair

FILES_PER_JOB = 32
MAX_TEXT_CHARACTERS = 4_000
"""No side of a pair is longer: more than any quickstart reads, and a bound on memory."""


@dataclass
class Collected:
    """What the files gave.

    Attributes:
        pairs: of every kind.
        undocumented: functions without a docstring: nobody's answer, good distractors.
        names: origin of a documented function -> its name.
        report: counts by kind, and what was skipped by reason.
    """

    pairs: list[Pair] = field(default_factory=list)
    undocumented: list[Document] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    report: ReadReport = field(default_factory=ReadReport)

    def merge(self, other: Collected) -> None:
        """Add what another job collected."""
        self.pairs.extend(other.pairs)
        self.undocumented.extend(other.undocumented)
        self.names.update(other.names)
        self.report.merge(other.report)


def collect(
    files: Sequence[SourceFile], *, minimum_statements: int, progress: Progress
) -> Collected:
    """Read ``files`` on all processors; the result does not depend on how many there are.

    Args:
        files: what to read, in the order of the result.
        minimum_statements: of an undocumented function that is kept.
        progress: told how many files are done.
    """
    jobs = [files[i : i + FILES_PER_JOB] for i in range(0, len(files), FILES_PER_JOB)]
    collected = Collected()
    done = 0
    for job, part in zip(jobs, _map(jobs, minimum_statements), strict=True):
        collected.merge(part)
        done += len(job)
        progress(done, len(files))
    return collected


def _map(jobs: Sequence[Sequence[SourceFile]], minimum_statements: int) -> Iterator[Collected]:
    statements = [minimum_statements] * len(jobs)
    num_workers = min(len(os.sched_getaffinity(0)), len(jobs))
    if num_workers <= 1:
        yield from map(read_files, jobs, statements)
        return
    # spawn: the fork of a process whose threads run (torch, onnxruntime) may never wake
    with ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(read_files, jobs, statements)


def read_files(files: Sequence[SourceFile], minimum_statements: int) -> Collected:
    """One job: read some files in this process."""
    collected = Collected()
    for file in files:
        if file.language == "python":
            _read_python(file, minimum_statements, collected)
        else:
            pairs, _, report = read_file(file)
            collected.pairs.extend(map(_bounded, pairs))
            collected.report.merge(report)
            for pair in pairs:
                collected.report.count(pair.kind)
        collected.report.count("files")
    return collected


def _read_python(file: SourceFile, minimum_statements: int, collected: Collected) -> None:
    parsed = read_python_file(file.path, name=file.name, group=file.group)
    collected.report.merge(parsed.report)
    collected.pairs.extend(map(_bounded, parsed.pairs))
    for function in parsed.functions:
        origin = f"{function.path}:{function.line}"
        if function.docstring is not None:
            collected.names[origin] = function.name
        elif function.num_statements >= minimum_statements and not function.is_stub:
            text = function.code[:MAX_TEXT_CHARACTERS]
            document = Document(origin, text, group=file.group, kind="function", origin=origin)
            collected.undocumented.append(document)


def _bounded(pair: Pair) -> Pair:
    if max(len(pair.query), len(pair.positive)) <= MAX_TEXT_CHARACTERS:
        return pair
    return replace(
        pair,
        query=pair.query[:MAX_TEXT_CHARACTERS],
        positive=pair.positive[:MAX_TEXT_CHARACTERS],
    )


def regroup(pairs: Sequence[Pair], *, minimum_groups: int = 8) -> list[Pair]:
    """Pairs whose groups can be held out: the coarsest of folder, file and row that can.

    A unit can be held out when there are ``minimum_groups`` of it and none holds more than
    half of the rows.
    """
    levels = (
        [pair.group for pair in pairs],
        [_file_of(pair.origin) for pair in pairs],
        [pair.origin for pair in pairs],
    )
    for groups in levels:
        sizes: dict[str, int] = {}
        for group in groups:
            sizes[group] = sizes.get(group, 0) + 1
        if len(sizes) >= minimum_groups and max(sizes.values()) <= len(pairs) / 2:
            break
    return [replace(pair, group=group) for pair, group in zip(pairs, groups, strict=True)]


def package_of(group: str) -> str:
    """The package of a group: the distribution, or the top folder of a repository."""
    parts = PurePosixPath(group).parts
    return "/".join(parts[:2]) if len(parts) > 2 else (parts[0] if parts else "")


def _file_of(origin: str) -> str:
    path, colon, line = origin.rpartition(":")
    return path if colon and line.isdigit() else origin
