"""Evaluation files -> rows, with the line they stood on, so that errors can name it."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from opengte.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of a JSONL file, perhaps compressed.

    Raises:
        DataError: no UTF-8, no JSON, or not an object; with file and line.
    """
    with open_text(path) as stream:
        for number, line in _lines(stream, path):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"not JSON: {error}", path=path, line=number) from error
            if not isinstance(row, dict):
                raise DataError(
                    f"expected an object, found a {type(row).__name__}", path=path, line=number
                )
            yield number, row


def read_tab_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers, from 1, and cells of a tab-separated file, perhaps compressed."""
    with open_text(path) as stream:
        for number, line in _lines(stream, path):
            if line.strip():
                yield number, line.rstrip("\r\n").split("\t")


def field_of(row: dict[str, Any], name: str, kinds: Any, path: Path, line: int) -> Any:
    """A field of a row.

    Raises:
        DataError: it is absent or of another type; the message lists what the row has.
    """
    if name not in row:
        found = ", ".join(sorted(row)) or "none"
        raise DataError(f"no field {name!r}; found: {found}", path=path, line=line)
    value = row[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in _as_tuple(kinds)):
        wanted = " or ".join(kind.__name__ for kind in _as_tuple(kinds))
        raise DataError(
            f"field {name!r} is a {type(value).__name__}, expected {wanted}", path=path, line=line
        )
    return value


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A text stream over a plain, ``.gz`` or ``.zst`` file; only line feeds end a line.

    Raises:
        DataError: the file is absent or is a folder.
    """
    try:
        raw = open(path, "rb")  # noqa: SIM115 - closed by the stack below
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    with contextlib.ExitStack() as stack:
        binary: Any = stack.enter_context(raw)
        if path.suffix == ".gz":
            binary = stack.enter_context(gzip.open(binary, "rb"))
        elif path.suffix == ".zst":
            import zstandard

            binary = stack.enter_context(zstandard.ZstdDecompressor().stream_reader(binary))
        yield stack.enter_context(io.TextIOWrapper(binary, encoding="utf-8", newline="\n"))


def _lines(stream: IO[str], path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(stream, start=1):
            yield number, line
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise DataError(f"cannot be read: {error}", path=path, line=number + 1) from error
    except Exception as error:
        # zstandard has its own error, known only where the package is installed.
        if type(error).__module__.startswith("zstandard"):
            raise DataError(f"cannot be read: {error}", path=path, line=number + 1) from error
        raise


def _as_tuple(kinds: Any) -> tuple[type, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)
