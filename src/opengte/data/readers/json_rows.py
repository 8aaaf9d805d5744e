"""JSON lines: bytes in, Python values out, with one kind of error for all that is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.detect import compression_of, is_binary, read_head
from opengte.data.readers.lines import decode_line, read_lines, read_whole
from opengte.errors import DataError

try:
    from orjson import loads as _loads
except ImportError:  # a GPU machine that holds only what training needs
    _loads = None  # type: ignore[assignment]


CONTAINERS = ("issues", "items", "data", "rows", "results", "records")
"""Fields under which listings keep their rows."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def parse_json(line: bytes) -> Any:
    """Parse strictly: no NaN, no lone surrogates, valid UTF-8.

    Raises:
        ValueError: what is wrong, on one line.
    """
    if _loads is not None:
        return _loads(line)
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def describe_json_error(line: bytes, error: ValueError) -> str:
    """One sentence on why ``line`` is no JSON; names the byte where it is not UTF-8."""
    try:
        decode_line(line)
    except ValueError as encoding_error:
        return str(encoding_error)
    if b"NaN" in line or b"Infinity" in line:
        return f"not valid JSON: NaN and Infinity are no JSON values ({error})"
    return f"not valid JSON: {error}"


def read_json_rows(path: str | Path, bad_rows: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for every line that is not blank.

    Raises:
        DataError: a binary file; a line that is not one JSON object (file and line named).
    """
    head = read_head(path)
    if compression_of(head) is None and is_binary(head):
        bad_rows.refuse("binary file", "a binary file, not JSON lines", path=path, line=1)
        return
    for number, line in read_lines(path, bad_rows=bad_rows):
        if not line or line.isspace():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            reason = "not JSON" if line.isascii() or _is_utf8(line) else "not UTF-8"
            message = describe_json_error(line, error)
            bad_rows.refuse(reason, message, path=path, line=number, cause=error)
            continue
        if type(row) is not dict:
            message = f"expected one JSON object a line, got {type(row).__name__}"
            bad_rows.refuse("not an object", message, path=path, line=number)
            continue
        yield number, row


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def read_json_array(path: str | Path, bad_rows: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number of the element from 1, object) of an array, or of a listing that holds one.

    Raises:
        DataError: not a JSON array, over the size that is held in memory, or holding others.
    """
    content = read_whole(path)
    try:
        values = parse_json(content)
    except ValueError as error:
        raise DataError(describe_json_error(content, error), path=path, line=1) from error
    if isinstance(values, dict):
        held = [values[name] for name in CONTAINERS if isinstance(values.get(name), list)]
        values = held[0] if held else [values]
    if not isinstance(values, list):
        raise DataError(f"expected an array, got {type(values).__name__}", path=path, line=1)
    for number, row in enumerate(values, start=1):
        if type(row) is dict:
            yield number, row
        else:
            message = f"element {number} must be an object, got {type(row).__name__}"
            bad_rows.refuse("not an object", message, path=path)
