"""A folder of code and documents: paths in, readable files with their language out.

Whatever is not read is counted by reason, so that a user sees what a model never saw.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from opengte.data.readers.exclusions import (
    content_reason,
    folder_reason,
    matches,
    name_reason,
)
from opengte.data.readers.report import ReadReport
from opengte.errors import DataError

MAX_FILE_BYTES = 2 * 2**20

LANGUAGES = {
    ".py": "python",
    ".md": "markdown",
    ".markdown": "markdown",
    ".mdx": "markdown",
    ".rst": "rst",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".txt": "text",
    ".ipynb": "notebook",
    ".pdf": "pdf",
    ".docx": "docx",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hh": "cpp",
    ".hpp": "cpp",
    ".hxx": "cpp",
    ".go": "go",
    ".java": "java",
    ".js": "javascript",
    ".jsx": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".php": "php",
    ".rb": "ruby",
    ".rs": "rust",
    ".ts": "typescript",
    ".mts": "typescript",
    ".tsx": "tsx",
}
"""Suffix to language."""

NAMED_FILES = {"readme": "text", "news": "text", "notes": "text", "hacking": "text"}
"""Files without a suffix that hold text."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that can be read.

    Attributes:
        path: where it is.
        name: its path below the folder that was given, with that folder's name in front.
        language: of ``LANGUAGES``.
        group: the folder it stands in, at most two levels below the one that was given.
        num_bytes: its size.
    """

    path: Path
    name: str
    language: str
    group: str
    num_bytes: int


def read_tree(
    paths: str | Path | Iterable[str | Path],
    *,
    report: ReadReport | None = None,
    exclude: Sequence[str] = (),
    languages: Iterable[str] | None = None,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Iterator[SourceFile]:
    """Yield the readable files below ``paths``, in the order of their names.

    A symbolic link to a folder is not followed: what it points to is read where it is, and
    loops cannot arise. A path given directly is read even if its name is excluded.

    Args:
        paths: folders or files.
        report: counts files and folders that are left out.
        exclude: shell patterns against the path below the given folder, or any name in it.
        languages: only these; all of ``LANGUAGES`` by default.
        max_file_bytes: longest file.

    Raises:
        DataError: a path does not exist; nothing at all can be read (says what was skipped).
    """
    report = ReadReport() if report is None else report
    roots = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    wanted = None if languages is None else frozenset(languages)
    found = 0
    mine = ReadReport(max_examples=report.max_examples)
    for root in roots:
        for file in _walk(root, mine, exclude, wanted, max_file_bytes):
            found += 1
            yield file
    report.merge(mine)
    report.count("files", found)
    if not found:
        raise DataError(_nothing(mine), path=roots[0] if len(roots) == 1 else None)


def language_of(path: str | Path) -> str | None:
    """The language that a file's name stands for, or None."""
    path = Path(path)
    if not path.suffix:
        return NAMED_FILES.get(path.name.lower())
    return LANGUAGES.get(path.suffix.lower())


def _nothing(report: ReadReport) -> str:
    skipped = ", ".join(f"{number} x {reason}" for reason, number in report.skipped.most_common(6))
    kinds = ", ".join(sorted(set(LANGUAGES.values())))
    return f"nothing to read here (skipped: {skipped or 'nothing, it is empty'}); it reads {kinds}"


def _walk(
    root: Path,
    report: ReadReport,
    exclude: Sequence[str],
    languages: frozenset[str] | None,
    max_file_bytes: int,
) -> Iterator[SourceFile]:
    if not root.exists():
        raise DataError("no such file or folder", path=root)
    prefix = root.resolve().name
    if root.is_file():
        file = _file(root, prefix, prefix, report, max_file_bytes, languages, given=True)
        if file is not None:
            yield file
        return
    for path, below in _entries(root, report, exclude):
        group = "/".join((prefix, *below.split("/")[:-1][:2]))
        file = _file(path, f"{prefix}/{below}", group, report, max_file_bytes, languages)
        if file is not None:
            yield file


def _entries(root: Path, report: ReadReport, exclude: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """(path, path below ``root`` with slashes) of all files, folders in the order of names."""

    def unreadable(error: OSError) -> None:
        report.skip("unreadable folder", path=error.filename or root, detail=str(error.strerror))

    for folder, names, files in os.walk(root, onerror=unreadable):
        here = Path(folder)
        below = here.relative_to(root).as_posix()
        below = "" if below == "." else f"{below}/"
        kept = []
        for name in sorted(names):
            reason = folder_reason(here / name, f"{below}{name}", exclude)
            if reason is None:
                kept.append(name)
            else:
                report.skip(reason, path=here / name)
        names[:] = kept
        for name in sorted(files):
            if matches(f"{below}{name}", exclude):
                report.skip("excluded by pattern", path=here / name)
            else:
                yield here / name, f"{below}{name}"


def _file(
    path: Path,
    name: str,
    group: str,
    report: ReadReport,
    max_file_bytes: int,
    languages: frozenset[str] | None,
    *,
    given: bool = False,
) -> SourceFile | None:
    language = language_of(path)
    if language is None or (languages is not None and language not in languages):
        report.skip(_unknown(path), path=path)
        return None
    try:
        status = path.stat()
        reason = None if given else name_reason(path)
        if reason is None:
            reason = content_reason(path, status.st_size, max_file_bytes, language)
    except OSError as error:
        reason = "broken symbolic link" if path.is_symlink() else f"unreadable ({error.strerror})"
    if reason is not None:
        report.skip(reason, path=path)
        return None
    return SourceFile(path, name, language, group, status.st_size)


def _unknown(path: Path) -> str:
    suffix = path.suffix.lower()
    return (
        f"not a kind that is read ({suffix})"
        if 1 < len(suffix) <= 6
        else ("not a kind that is read")
    )
