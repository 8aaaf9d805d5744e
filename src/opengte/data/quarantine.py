"""Rows that cannot be used -> a file of them, so that they can be mended and built again."""

from __future__ import annotations

import json
from pathlib import Path

from opengte.atomic import storage_errors
from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.report import ReadReport

_MAX_RAW = 10_000


class QuarantinedRows(BadRows):
    """Counts a bad row, and keeps it with its place and reason in a file of JSON lines.

    Args:
        path: the file; it is made when the first row comes.
        report: counts what was skipped.
        keep_bytes: of a file that a killed build left, how much belongs to what is kept of it.

    Attributes:
        raw: the line that is being looked at, where there is one.
    """

    def __init__(self, path: Path, report: ReadReport, *, keep_bytes: int = 0) -> None:
        super().__init__("skip", report)
        self.raw: bytes | None = None
        self._path = path
        if path.exists():
            with storage_errors(path), open(path, "rb+") as stream:
                stream.truncate(keep_bytes)

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return self._path.stat().st_size if self._path.exists() else 0

    def refuse(
        self,
        reason: str,
        message: str,
        *,
        path: str | Path,
        line: int | None = None,
        cause: BaseException | None = None,
    ) -> None:
        """Count the row under ``reason`` and write it down."""
        super().refuse(reason, message, path=path, line=line, cause=cause)
        row = {"path": str(path), "line": line, "reason": reason, "message": message}
        if self.raw is not None:
            row["row"] = self.raw[:_MAX_RAW].decode("utf-8", "backslashreplace")
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
