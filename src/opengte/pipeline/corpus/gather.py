"""Installed packages and Python's own library -> the files to read.

The unit that is held out as a whole, a file's ``group``, is a distribution, or a top-level module
of the standard library.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import random
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from opengte.data.readers.tree import LANGUAGES, MAX_FILE_BYTES, SourceFile
from opengte.errors import DataError

STANDARD_LIBRARY = "python"
LEFT_OUT_OF_STANDARD_LIBRARY = frozenset(
    {"test", "tests", "idlelib", "distutils", "lib2to3", "site-packages", "__pycache__"}
)
LEFT_OUT_OF_PACKAGES = frozenset({"test", "tests", "_vendor", "vendored", "__pycache__"})
PROSE_SUFFIXES = frozenset({".md", ".rst"})
MAX_FILES_PER_PACKAGE = 160


def standard_library_files() -> list[SourceFile]:
    """Python's own library; each top-level module or package is a group."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for path in sorted(root.rglob("*.py")):
        below = path.relative_to(root)
        module = below.parts[0].removesuffix(".py")
        if LEFT_OUT_OF_STANDARD_LIBRARY.intersection(below.parts):
            continue
        if module.startswith("_sysconfigdata"):  # describes the machine that built it
            continue
        group = f"{STANDARD_LIBRARY}/{module}"
        files.append(_source_file(path, f"{STANDARD_LIBRARY}/{below.as_posix()}", group))
    return files


def package_files(name: str, *, seed: int) -> list[SourceFile]:
    """At most ``MAX_FILES_PER_PACKAGE`` source files of an installed distribution.

    Raises:
        DataError: the distribution is not installed.
    """
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"package {name!r} is not installed; pip install -c constraints.txt "
            "'opengte[quickstart]', or take it out of the recipe's stages.corpus.packages"
        ) from None
    candidates = sorted(
        (
            file
            for file in distribution.files or ()
            if file.suffix in {".py", *PROSE_SUFFIXES}
            and ".dist-info" not in file.parts[0]
            and ".." not in file.parts
            and not LEFT_OUT_OF_PACKAGES.intersection(file.parts)
        ),
        key=lambda file: file.as_posix(),
    )
    if len(candidates) > MAX_FILES_PER_PACKAGE:
        random.Random(f"{seed}/{name}").shuffle(candidates)
        candidates = sorted(candidates[:MAX_FILES_PER_PACKAGE], key=lambda file: file.as_posix())
    located = ((Path(str(distribution.locate_file(file))), file) for file in candidates)
    return [
        _source_file(path, f"{name}/{file.as_posix()}", name)
        for path, file in located
        if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES
    ]


def package_versions(names: Sequence[str], *, standard_library: bool) -> dict[str, str]:
    """What the embedded corpus is read from: name -> version; absent packages are left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if standard_library:
        versions[STANDARD_LIBRARY] = platform.python_version()
    return versions


def files_fingerprint(files: Iterable[SourceFile]) -> str:
    """Sixteen hex digits over the names and the contents of ``files``."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(hashlib.sha256(file.path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _source_file(path: Path, name: str, group: str) -> SourceFile:
    return SourceFile(path, name, LANGUAGES[path.suffix], group, path.stat().st_size)
