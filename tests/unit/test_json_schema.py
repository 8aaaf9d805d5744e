"""The schema check agrees with jsonschema on what it knows, and refuses the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.json_schema import check_schema, extract_json, find_faults

SCHEMA = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 3, "maxLength": 20},
        "kind": {"type": "string", "enum": ["short", "long"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "count": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
        "sure": {"type": "boolean"},
    },
    "required": ["query", "kind"],
    "additionalProperties": False,
}
GOOD = {"query": "how to", "kind": "short", "score": 0.5, "count": 2, "tags": ["a"], "sure": True}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"query": 7}, "the answer.query must be of type string, got 7"),
        ({"query": " a "}, "the answer.query must have at least 3 characters, got 1"),
        ({"query": "x" * 21}, "the answer.query must have at most 20 characters, got 21"),
        ({"kind": "huge"}, 'the answer.kind must be one of "short", "long", got "huge"'),
        ({"score": 2}, "the answer.score must be <= 1, got 2"),
        ({"score": -1}, "the answer.score must be >= 0, got -1"),
        ({"score": True}, "the answer.score must be of type number, got true"),
        ({"count": 1.5}, "the answer.count must be of type integer, got 1.5"),
        ({"tags": []}, "the answer.tags must have at least 1 items, got 0"),
        ({"tags": list("abcd")}, "the answer.tags must have at most 3 items, got 4"),
        ({"tags": ["a", 1]}, "the answer.tags[1] must be of type string, got 1"),
        ({"more": 1}, "the answer has the unknown key 'more'"),
    ],
)
def test_faults_name_place_expectation_and_value(change: dict[str, Any], fault: str) -> None:
    assert find_faults({**GOOD, **change}, SCHEMA) == [fault]


def test_all_faults_are_found_at_once() -> None:
    assert find_faults({"score": 2}, SCHEMA) == [
        "the answer lacks the key 'query'",
        "the answer lacks the key 'kind'",
        "the answer.score must be <= 1, got 2",
    ]
    assert find_faults([], SCHEMA) == ["the answer must be of type object, got []"]
    assert find_faults(GOOD, SCHEMA) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["query", "kind", "tags", "z"]), inner, max_size=4)
    ),
    max_leaves=8,
)
schemas = st.sampled_from(
    [
        SCHEMA,
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2},
        {"enum": ["a", "b", None]},
        {"type": "string", "minLength": 2},
        {"const": "a"},
        {"type": "object", "properties": {"tags": {"type": "null"}}, "required": ["tags"]},
    ]
)


@given(json_values, schemas)
def test_agrees_with_jsonschema(value: Any, schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema)
    assert (find_faults(value, schema) == []) == validator.is_valid(value)


def test_what_is_not_supported_is_refused() -> None:
    with pytest.raises(ConfigError, match="the schema uses 'anyOf', which is not supported"):
        check_schema({"anyOf": []})
    with pytest.raises(ConfigError, match="property 'a', names the type 'text'; known are object"):
        check_schema({"properties": {"a": {"type": "text"}}})
    with pytest.raises(ConfigError, match="items, uses 'format'"):
        check_schema({"items": {"format": "date"}})


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, "}"]}',
        'Sure!\n```json\n{"a": [1, "}"]}\n```\nAnything else?',
        'Here it is: {"a": [1, "}"]} - good luck {',
        '<think>maybe {"a": 0}?</think>\n{"a": [1, "}"]}',
        'a set {x} first, then {"a": [1, "}"]}',
    ],
)
def test_json_is_found_between_other_words(text: str) -> None:
    assert extract_json(text) == {"a": [1, "}"]}


@given(json_values)
def test_plain_json_is_read_as_it_is(value: Any) -> None:
    assert extract_json(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["", "no json here", '{"a": ', "```json\n{\n```"])
def test_no_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="it holds no JSON value"):
        extract_json(text)
