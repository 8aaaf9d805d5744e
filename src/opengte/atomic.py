"""The one place that writes files: temporary name, fsync, rename.

A reader sees the old file, or the new one whole; never half of either. A full disk leaves the
old file in place and no temporary one behind.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from opengte.errors import StorageError

_DISK_ERRORS = {
    errno.ENOSPC: "no space left on the device; free some and run the same command again",
    errno.EDQUOT: "disk quota exceeded; free some and run the same command again",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "operation not permitted; choose a folder you may write to",
    errno.EROFS: "read-only file system; choose a folder you may write to",
}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into a ``StorageError``."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise StorageError(_DISK_ERRORS[error.errno], path=path) from error
        raise


def fsync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: str | Path, *, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of ``path``; rename it over ``path`` when the block ends well.

    Args:
        path: the file to be; its folder is made.
        mode: ``wb``, or ``w`` for UTF-8 text with unchanged line ends.

    Raises:
        StorageError: the disk is full or the folder cannot be written; ``path`` is as before.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        try:
            with os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        fsync_folder(path.parent)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step."""
    with atomic_file(path) as stream:
        stream.write(content)


def write_text(path: str | Path, content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8 in one step."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON in one step; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Fill a temporary neighbour folder; put it in the place of ``path`` when the block ends well.

    An older folder of that name is moved aside first and removed last, so that one of the two
    is there at any moment but the one between two renames; ``recover_folder`` mends that one.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield fresh
            for file in sorted(fresh.rglob("*")):
                if file.is_file():
                    with open(file, "rb") as stream:
                        os.fsync(stream.fileno())
            os.chmod(fresh, 0o755)
            old = _aside(path)
            if path.exists():
                os.replace(path, old)
            os.replace(fresh, path)
            fsync_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


def recover_folder(path: str | Path) -> None:
    """Finish or undo a replacement of ``path`` that was killed, and drop its temporary folders."""
    path = Path(path)
    old = _aside(path)
    if old.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)
    for rest in path.parent.glob(f".{path.name}.*.tmp"):
        if rest.is_dir():
            shutil.rmtree(rest, ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.parent / f".{path.name}.old"
