"""Paths as recipes write them -> files, and what tells that they have changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import opengte
from opengte.errors import ConfigError

SOURCE_TREE = Path(opengte.__file__).resolve().parents[2]


def find_data(path: str | Path) -> Path:
    """The file or folder of a recipe's path.

    Relative ones are looked up where the command runs, and then in the source tree, so that a
    recipe that reads ``examples/data`` runs from anywhere in a checkout.

    Raises:
        ConfigError: there is nothing.
    """
    given = Path(path).expanduser()
    if given.exists():
        return given
    if not given.is_absolute() and (SOURCE_TREE / "pyproject.toml").is_file():
        inside = SOURCE_TREE / given
        if inside.exists():
            return inside
    raise ConfigError("no such file or folder", path=given)


def file_marks(paths: Iterable[str | Path | None]) -> list[tuple[str, int, int]]:
    """Name, size and time of every file below ``paths``; what is absent leaves no mark."""
    marks = []
    for path in paths:
        try:
            found = None if path is None else find_data(path)
        except ConfigError:
            continue
        if found is None:
            continue
        for file in sorted([found] if found.is_file() else found.rglob("*")):
            if file.is_file():
                status = file.stat()
                marks.append((str(file), status.st_size, status.st_mtime_ns))
    return marks
