"""Finished work -> one line each in an append-only file that outlives a kill at any moment.

Answers of a language model cost money and never come twice alike, so each is on the disk before
the next step uses it. A line that a kill cut in half is dropped when the journal is opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from opengte.atomic import storage_errors, write_bytes
from opengte.errors import ConfigError, DataError


class Journal:
    """Records by key, in the order in which they were finished.

    Args:
        path: the file; made if absent.
        header: what the records depend on; a journal with another one is refused.

    Raises:
        ConfigError: the file is of a run with other settings.
        DataError: a line in the middle is damaged.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self._path = path
        self.records: dict[str, dict[str, Any]] = {}
        self._read(header)
        with storage_errors(path):
            self._stream: IO[bytes] = open(path, "ab")  # noqa: SIM115 - closed by close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a record; it is on the disk when this returns.

        Raises:
            StorageError: the disk is full; what was kept before is whole.
        """
        line = json.dumps({"key": key, **record}, ensure_ascii=False)
        with storage_errors(self._path):
            self._stream.write(line.encode("utf-8", "replace") + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self.records[key] = json.loads(line)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _read(self, header: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(header))
        content = self._path.read_bytes() if self._path.exists() else b""
        *lines, torn = content.split(b"\n")
        if torn:
            # The end of a write that was killed: everything before it is whole.
            write_bytes(self._path, b"".join(line + b"\n" for line in lines))
        if not lines:
            write_bytes(self._path, json.dumps(wanted, ensure_ascii=False).encode() + b"\n")
            return
        found = self._parse(lines[0], 1)
        if found != wanted:
            names = [name for name in wanted if found.get(name) != wanted[name]]
            raise ConfigError(
                f"this journal was begun with another {', '.join(names) or 'set of settings'}; "
                "go on with the same, or choose another folder",
                path=self._path,
            )
        for number, line in enumerate(lines[1:], 2):
            record = self._parse(line, number)
            self.records[record["key"]] = record

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or (number > 1 and "key" not in record):
                raise ValueError("no record")
        except ValueError as error:
            raise DataError(
                "this line of the journal is damaged; remove the line to make it again",
                path=self._path,
                line=number,
            ) from error
        return record
