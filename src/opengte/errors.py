"""The error tree: what was given, what was expected, where it stood, what to do about it.

``UserError`` and its children are things a user can mend: the command line prints them as one
line and exits with 2. Everything else is a fault of ours: the traceback is kept and the exit
code is 1. Foreign exceptions are turned into these at the border where they arise, once.
"""

from __future__ import annotations

from pathlib import Path


class OpenGTEError(Exception):
    """Anything ``opengte`` raises on purpose."""


class UserError(OpenGTEError):
    """Something the user can mend.

    Args:
        message: what was given and what was expected, then what to do, on one line.
        path: the file at fault, where there is one.
        line: its line, counted from 1.
    """

    def __init__(
        self, message: str, *, path: str | Path | None = None, line: int | None = None
    ) -> None:
        self.message = message
        self.path = None if path is None else Path(path)
        self.line = line
        super().__init__(str(self))

    def __str__(self) -> str:
        if self.path is None:
            return self.message
        where = f"{self.path}" if self.line is None else f"{self.path}:{self.line}"
        return f"{where}: {self.message}"


class DataError(UserError):
    """A corpus, a pair file, a store or an evaluation set is not what its reader expects."""


class ConfigError(UserError, ValueError):
    """A recipe or an option holds a value that cannot be used.

    A ``ValueError`` too, so that the recipe parser can say under which key it stood.
    """


class ModelFolderError(UserError):
    """A model folder is incomplete, altered, or asks for something we refuse to run."""


class SearchIndexError(UserError):
    """A search index cannot answer: damaged, or made in another embedding space."""


class EndpointError(UserError):
    """An HTTP endpoint (embeddings or chat) refused, timed out or answered nonsense."""


class StorageError(UserError):
    """Nothing could be written: the disk is full or the folder is not ours to write."""


class MissingExtraError(UserError):
    """An optional package is absent.

    Args:
        package: the package that could not be imported.
        extra: the extra of ``opengte`` that brings it.
    """

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f'{package} is not installed; pip install "opengte[{extra}]"')
