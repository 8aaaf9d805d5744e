"""The recipe's settings -> a JSON Schema of recipe files, for editors and checks elsewhere.

A file that stands alone must be a whole recipe. One that ``extends`` another holds what it
changes, at any depth: nothing in it is required, ``null`` takes a stage away, and a stage may
leave out its ``kind``. In both, ``"*": null`` may stand in any mapping. What a schema cannot say
is left to the loader: which stage may name which, and contradictions between values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opengte.pipeline.recipe import BASE, EVERYTHING, STAGE_NAME, Recipe

Schema = dict[str, Any]
_DEFINITIONS = "#/$defs/"
_CHANGES = "changes-of-"
"""Before the name of a definition: the same, with nothing required."""
_DATA_KEYS = ("default", "examples", "const", "enum")
"""Keys behind which values stand, and no schemas."""


def recipe_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a recipe file, ``extends`` included."""
    made = Recipe.model_json_schema()
    definitions: Schema = made.pop("$defs")
    made["properties"]["stages"] = _with_stage_rules(made["properties"]["stages"])
    whole = {name: _whole(part) for name, part in definitions.items()}
    changes = {_CHANGES + name: _changed(part) for name, part in definitions.items()}
    root = _changed(made)
    root["properties"]["extends"] = {
        "type": ["string", "null"],
        "description": "A bundled recipe or a file that this one changes.",
    }
    recipe = _whole(made)
    recipe["properties"]["extends"] = {"type": "null"}
    # A recipe needs a stage; one that is null is none.
    recipe["properties"]["stages"]["not"] = {"additionalProperties": {"type": "null"}}
    return {
        **root,
        "title": "opengte recipe",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {**whole, **changes, "Recipe": recipe},
        "if": {"required": ["extends"], "properties": {"extends": {"type": "string"}}},
        "else": {"$ref": f"{_DEFINITIONS}Recipe"},
    }


def _with_stage_rules(stages: Schema) -> Schema:
    """``null`` removes a stage, or keeps the place of one that a command turns on."""
    return {
        **stages,
        "additionalProperties": {"anyOf": [stages["additionalProperties"], {"type": "null"}]},
        "propertyNames": {
            "anyOf": [
                {"const": EVERYTHING},
                {"pattern": f"^{STAGE_NAME}$", "not": {"const": BASE}},
            ]
        },
    }


def _whole(schema: Schema) -> Schema:
    return _with_everything(_mapped(schema, _whole))


def _changed(schema: Schema) -> Schema:
    """What a child may write in the place of ``schema``: a part of it."""
    found = _with_everything(_mapped(schema, _changed))
    found.pop("required", None)
    found.pop("discriminator", None)
    if "oneOf" in found:  # without its kind, a part may fit several
        found["anyOf"] = found.pop("oneOf")
    if found.get("$ref", "").startswith(_DEFINITIONS):
        found["$ref"] = _DEFINITIONS + _CHANGES + found["$ref"].removeprefix(_DEFINITIONS)
    # A list replaces the older one, so that what stands in it is whole.
    for key in ("items", "prefixItems"):
        if key in schema:
            found[key] = _mapped(schema, _whole)[key]
    return found


def _with_everything(schema: Schema) -> Schema:
    if schema.get("type") != "object":
        return schema
    return {**schema, "properties": {**schema.get("properties", {}), EVERYTHING: {"type": "null"}}}


def _mapped(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A copy in which ``change`` was applied to every schema directly inside."""
    made: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            made[key] = {name: change(part) for name, part in value.items()}
        elif isinstance(value, dict) and key not in (*_DATA_KEYS, "discriminator", "propertyNames"):
            made[key] = change(value)
        elif isinstance(value, list) and key not in (*_DATA_KEYS, "required"):
            made[key] = [change(part) if isinstance(part, dict) else part for part in value]
        else:
            made[key] = value
    return made
