"""Wikidata JSON dumps (one entity a line inside an array) to (entity, description)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.json_rows import describe_json_error, parse_json
from opengte.data.readers.lines import read_lines
from opengte.records import Pair


def read_wikidata(path: Path, bad_rows: BadRows, *, language: str = "en") -> Iterator[Pair]:
    """Yield (label, description) of every entity that has both in ``language``.

    Args:
        path: a dump as published: ``[``, then one object and a comma a line, then ``]``; or
            plain JSON lines.
        bad_rows: what to do with lines that cannot be used.
        language: of labels and descriptions.
    """
    for number, line in read_lines(path, bad_rows=bad_rows):
        line = line.strip().rstrip(b",")
        if line in (b"", b"[", b"]"):
            continue
        try:
            entity = parse_json(line)
        except ValueError as error:
            message = describe_json_error(line, error)
            bad_rows.refuse("not JSON", message, path=path, line=number, cause=error)
            continue
        label = _in_language(entity, "labels", language)
        description = _in_language(entity, "descriptions", language)
        if not label or not description:
            bad_rows.report.skip(f"entity without {language} texts", path=path, line=number)
            continue
        yield Pair(label, description, kind="entity-description", origin=f"{path.name}:{number}")


def _in_language(entity: Any, field: str, language: str) -> str:
    texts = entity.get(field) if isinstance(entity, dict) else None
    entry = texts.get(language) if isinstance(texts, dict) else None
    value = entry.get("value") if isinstance(entry, dict) else None
    return value.strip() if isinstance(value, str) else ""
