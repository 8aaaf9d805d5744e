"""What to do with a row that cannot be used: stop there, or count it and go on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from opengte.data.readers.report import ReadReport
from opengte.errors import DataError

OnBadRow = Literal["error", "skip"]


class RowError(ValueError):
    """One row cannot be used; the reader that knows file and line turns it into a ``DataError``.

    Args:
        reason: a short name to count by, without anything of the row in it.
        message: what was found, what was expected, what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoPairError(RowError):
    """A sound row that holds no pair, like a ticket without a text: counted, never an error."""


class BadRows:
    """Stops at a bad row (``error``) or counts it with its place (``skip``).

    Args:
        on_bad_row: ``error`` or ``skip``.
        report: where skipped rows are counted; a new one by default.
    """

    def __init__(self, on_bad_row: OnBadRow = "error", report: ReadReport | None = None) -> None:
        if on_bad_row not in ("error", "skip"):
            raise DataError(f"on_bad_row must be 'error' or 'skip', got {on_bad_row!r}")
        self.skip = on_bad_row == "skip"
        self.report = ReadReport() if report is None else report

    def refuse(
        self,
        reason: str,
        message: str,
        *,
        path: str | Path,
        line: int | None = None,
        cause: BaseException | None = None,
    ) -> None:
        """Raise a ``DataError`` that names the place, or count the row under ``reason``."""
        if not self.skip:
            raise DataError(message, path=path, line=line) from cause
        self.report.skip(reason, path=path, line=line, detail=message)
