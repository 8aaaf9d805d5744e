"""A JSON value and a schema -> what is wrong with the value, in words a language model mends.

The part of JSON Schema that answers need: types, properties, required and additional ones,
enumerations, bounds on strings, arrays and numbers. A keyword outside it is an error and not
ignored: a check that is silently left out is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from opengte.errors import ConfigError

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_KEYWORDS = frozenset(
    {"type", "enum", "const", "title", "description"}
    | {"properties", "required", "additionalProperties"}
    | {"items", "minItems", "maxItems"}
    | {"minLength", "maxLength", "minimum", "maximum"}
)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?</think>|<thinking>.*?</thinking>", re.DOTALL)


def check_schema(schema: Mapping[str, Any], where: str = "the schema") -> None:
    """Refuse a schema that uses what is not supported here.

    Raises:
        ConfigError: an unknown keyword or type.
    """
    unknown = sorted(set(schema) - _KEYWORDS)
    if unknown:
        raise ConfigError(f"{where} uses {unknown[0]!r}, which is not supported")
    kind = schema.get("type")
    if kind is not None and kind not in _TYPES:
        raise ConfigError(f"{where} names the type {kind!r}; known are {', '.join(_TYPES)}")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{where}, property {name!r},")
    if "items" in schema:
        check_schema(schema["items"], f"{where}, items,")


def find_faults(value: Any, schema: Mapping[str, Any], where: str = "the answer") -> list[str]:
    """Everything that keeps ``value`` from satisfying ``schema``; empty when it does."""
    return list(_faults(value, schema, where))


def extract_json(text: str) -> Any:
    """The JSON value in a model's answer: plain, in a code fence, or between other words.

    Raises:
        ValueError: there is none.
    """
    text = _THOUGHT.sub("", text).strip()
    for candidate in (text, *_FENCE.findall(text)):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    for match in re.finditer(r"[{\[]", text):
        try:
            return json.JSONDecoder().raw_decode(text, match.start())[0]
        except ValueError:
            continue
    raise ValueError("it holds no JSON value")


def _faults(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    kind = schema.get("type")
    if kind is not None and not _is_type(value, kind):
        yield f"{where} must be of type {kind}, got {_short(value)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(json.dumps(option, ensure_ascii=False) for option in schema["enum"])
        yield f"{where} must be one of {allowed}, got {_short(value)}"
    if "const" in schema and value != schema["const"]:
        yield f"{where} must be {_short(schema['const'])}, got {_short(value)}"
    if isinstance(value, str):
        yield from _string_faults(value, schema, where)
    elif isinstance(value, list):
        yield from _array_faults(value, schema, where)
    elif isinstance(value, dict):
        yield from _object_faults(value, schema, where)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number_faults(value, schema, where)


def _string_faults(value: str, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    length = len(value.strip())
    if length < schema.get("minLength", 0):
        yield f"{where} must have at least {schema['minLength']} characters, got {length}"
    if length > schema.get("maxLength", length):
        yield f"{where} must have at most {schema['maxLength']} characters, got {length}"


def _array_faults(value: list[Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{where} must have at least {schema['minItems']} items, got {len(value)}"
    if len(value) > schema.get("maxItems", len(value)):
        yield f"{where} must have at most {schema['maxItems']} items, got {len(value)}"
    if "items" in schema:
        for number, item in enumerate(value):
            yield from _faults(item, schema["items"], f"{where}[{number}]")


def _object_faults(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where} lacks the key {name!r}"
    for name, item in value.items():
        if name in properties:
            yield from _faults(item, properties[name], f"{where}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{where} has the unknown key {name!r}"


def _number_faults(value: float, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if value < schema.get("minimum", value):
        yield f"{where} must be >= {schema['minimum']}, got {value}"
    if value > schema.get("maximum", value):
        yield f"{where} must be <= {schema['maximum']}, got {value}"


def _is_type(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind in ("number", "integer"):
        return False
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
