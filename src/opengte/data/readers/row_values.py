"""Typed values out of a row: a mapping and a field name in, a checked text or number out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from opengte.data.readers.bad_rows import RowError

Row = Mapping[str, Any]


def text_of(row: Row, field: str) -> str:
    """The text in ``field``.

    Raises:
        RowError: the field is absent, no text, or blank.
    """
    value = row.get(field)
    if type(value) is str and value and not value.isspace():
        return value
    raise _text_error(row, field)


def texts_of(row: Row, field: str) -> tuple[str, ...]:
    """The texts in an optional field: a list, one text, or nothing."""
    value = row.get(field)
    if value is None:
        return ()
    if type(value) is str:
        return (value,) if value and not value.isspace() else ()
    if not isinstance(value, (list, tuple)):
        raise RowError(
            f"bad {field}", f"field {field!r} must be a list of texts, got {show(value)}"
        )
    for number, text in enumerate(value):
        if type(text) is not str or not text or text.isspace():
            message = f"{field}[{number}] must be a text that is not blank, got {show(text)}"
            raise RowError(f"bad {field}", message)
    return tuple(value)


def number_of(row: Row, field: str) -> float | None:
    """The finite number in an optional field (a numeral in a text counts), or None."""
    value = row.get(field)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError(
            f"bad {field}", f"field {field!r} must be a finite number, got {show(value)}"
        )
    return number


def score_of(row: Row, field: str) -> float | None:
    """The similarity in an optional field, in [0, 1]."""
    score = number_of(row, field)
    if score is not None and not 0.0 <= score <= 1.0:
        message = (
            f"field {field!r} must lie in [0, 1], got {score:g}; divide it by the scale's maximum"
        )
        raise RowError(f"bad {field}", message)
    return score


def numbers_of(row: Row, field: str) -> tuple[float, ...]:
    """The finite numbers in an optional list field."""
    value = row.get(field)
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        message = f"field {field!r} must be a list of numbers, got {show(value)}"
        raise RowError(f"bad {field}", message)
    numbers = [number_of({field: each}, field) for each in value]
    if None in numbers:
        raise RowError(f"bad {field}", f"field {field!r} holds a null, where numbers were expected")
    return tuple(number for number in numbers if number is not None)


def numbered_negatives(row: Row) -> tuple[str, ...]:
    """negative, or negative_1 ... negative_n, in the order of their numbers."""
    names = [name for name in row if name.startswith("negative") and name != "negative_scores"]
    numbered = [name for name in names if name == "negative" or name[9:].isdigit()]
    numbered.sort(key=lambda name: int(name[9:] or 0))
    return tuple(text for name in numbered for text in texts_of(row, name))


def label_of(row: Row, field: str) -> str:
    """The text in an optional field; ``""`` where it is absent."""
    value = row.get(field)
    if value is None:
        return ""
    if type(value) is not str:
        raise RowError(f"bad {field}", f"field {field!r} must be a text, got {show(value)}")
    return value


def show(value: object) -> str:
    """The value for a message, cut so that it stays on one line."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _text_error(row: Row, field: str) -> RowError:
    if field not in row:
        found = sorted(str(name) for name in row)
        shown = str(found) if len(found) <= 12 else f"{str(found[:12])[:-1]}, ...]"
        return RowError(f"no field {field!r}", f"no field {field!r}; found {shown}")
    value = row[field]
    if type(value) is str:
        return RowError(f"blank {field}", f"field {field!r} is blank")
    return RowError(f"bad {field}", f"field {field!r} must be a text, got {show(value)}")
