"""A recipe: one YAML file -> typed, validated settings of every stage.

A recipe may extend another: mappings are merged key by key, anything else is replaced, ``null``
removes a stage, and a mapping that names another ``kind`` replaces the older one whole, as does
one that says ``"*": null``. A stage that the child adds runs before the first one of its parent
that names it, else after all of them.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from opengte.errors import ConfigError
from opengte.pipeline.stage_configs import (
    BackboneConfig,
    HardwareSettings,
    StageConfig,
    split_snapshot,
    stage_references,
)
from opengte.pipeline.yaml_file import KeyPath, parse_yaml, read_yaml

BASE = "base"
"""How stages name the recipe's backbone."""
EVERYTHING = "*"
"""A key whose ``null`` forgets all that a parent put into the same mapping."""
STAGE_NAME = "[a-z0-9][a-z0-9_-]*"
"""Pattern of what a stage may be called; not ``base``."""


class Recipe(BaseModel):
    """The whole of a run.

    Attributes:
        name: what the run folder is called.
        description: one line for people.
        reference: the paper or model card it follows.
        seed: from it every random choice of every stage is derived.
        hardware: what a plan reckons with.
        backbone: the model that training starts from.
        stages: name -> stage, in the order in which they run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = ""
    reference: str = ""
    seed: int = Field(default=0, ge=0, lt=2**31)
    hardware: HardwareSettings = HardwareSettings()
    backbone: BackboneConfig
    stages: dict[str, StageConfig]

    @field_validator("stages")
    @classmethod
    def _names_are_usable(cls, stages: dict[str, Any]) -> dict[str, Any]:
        if not stages:
            raise ValueError("a recipe needs at least one stage")
        for name in stages:
            if not re.fullmatch(STAGE_NAME, name) or name == BASE:
                raise ValueError(
                    f"{name!r} cannot name a stage: lower-case letters, digits, - and _ only, "
                    f"and not {BASE!r}"
                )
        return stages

    @model_validator(mode="after")
    def _references_point_back(self) -> Recipe:
        earlier: dict[str, str] = {BASE: "backbone"}
        for name, stage in self.stages.items():
            for field, reference, kinds in stage_references(stage):
                target = self._without_snapshot(f"stages.{name}.{field}", reference)
                if target not in earlier:
                    known = ", ".join(earlier)
                    raise ValueError(
                        f"stages.{name}.{field}: no stage {target!r} runs before {name!r}; "
                        f"expected one of {known}"
                    )
                if earlier[target] not in kinds:
                    raise ValueError(
                        f"stages.{name}.{field}: {target!r} is a {earlier[target]} stage; "
                        f"expected one of kind {', '.join(kinds)}"
                    )
            earlier[name] = stage.kind
        return self

    def _without_snapshot(self, field: str, reference: str) -> str:
        """The stage that is named; a share behind it must be among that stage's snapshots."""
        try:
            target, share = split_snapshot(reference)
        except ValueError:
            raise ValueError(f"{field}: {reference!r} must be a stage, or STAGE@SHARE") from None
        kept = getattr(self.stages.get(target), "snapshots", ())
        if share is not None and share not in kept:
            known = ", ".join(map(str, kept)) or "none"
            raise ValueError(f"{field}: {target!r} keeps no snapshot at {share}; it keeps {known}")
        return target

    def to_yaml(self) -> str:
        """The recipe with every default written out; parsing it gives an equal recipe."""
        return yaml.safe_dump(
            self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
        )


def bundled_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package."""
    folder = Path(str(importlib.resources.files("opengte") / "recipes"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def load_recipe(
    name_or_path: str | Path, *, overrides: Sequence[str] = (), extra: dict[str, Any] | None = None
) -> Recipe:
    """Read a recipe, what it extends, and what the command line sets.

    Args:
        name_or_path: a bundled recipe's name, or a file.
        overrides: ``key.path=value`` settings; values are YAML.
        extra: values merged last, as a command like ``gte quickstart`` gives them.

    Raises:
        ConfigError: naming file, line, key, what was given and what was expected.
    """
    path = find_recipe(name_or_path)
    values, lines = _read_with_parents(path, ())
    for override in overrides:
        values = merge_values(values, _parse_override(override))
    values = merge_values(values, extra or {})
    values["stages"] = {k: v for k, v in (values.get("stages") or {}).items() if v is not None}
    return _validate(values, path, lines)


def find_recipe(name_or_path: str | Path) -> Path:
    """The file behind a bundled recipe's name or a path.

    Raises:
        ConfigError: neither; the nearest bundled name is given.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    bundled = bundled_recipes()
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    if path.suffix in (".yaml", ".yml") or "/" in str(name_or_path):
        raise ConfigError("no such recipe file", path=path)
    raise ConfigError(
        f"no recipe named {str(name_or_path)!r}{_nearest(str(name_or_path), bundled)}; "
        "`gte recipe list` shows them, or give a file"
    )


def merge_values(older: Any, newer: Any) -> Any:
    """``newer`` over ``older``, as ``extends`` means it."""
    if isinstance(newer, list):
        return [merge_values(None, value) for value in newer]
    if not isinstance(newer, dict):
        return newer
    merged = dict(older) if isinstance(older, dict) and not _replaces(newer, older) else {}
    for key, value in newer.items():
        if key != EVERYTHING or value is not None:
            merged[key] = merge_values(merged.get(key), value)
    return merged


def _replaces(newer: dict[str, Any], older: dict[str, Any]) -> bool:
    forgets = EVERYTHING in newer and newer[EVERYTHING] is None
    return forgets or ("kind" in newer and newer["kind"] != older.get("kind", newer["kind"]))


def _read_with_parents(
    path: Path, seen: tuple[Path, ...]
) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    path = path.resolve()
    if path in seen:
        raise ConfigError("a recipe cannot extend itself", path=path)
    values, lines = read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return merge_values({}, values), lines
    if not isinstance(parent, str):
        raise ConfigError(
            f"key 'extends': expected a recipe's name or file, got {parent!r}",
            path=path,
            line=lines[("extends",)],
        )
    beside = path.parent / parent
    base, _ = _read_with_parents(beside if beside.is_file() else find_recipe(parent), (*seen, path))
    merged = merge_values(base, values)
    if isinstance(merged.get("stages"), dict):
        forgets = EVERYTHING in (values.get("stages") or {})
        inherited = {} if forgets else base.get("stages") or {}
        merged["stages"] = _in_running_order(merged["stages"], inherited)
    return merged, lines


def _in_running_order(stages: dict[str, Any], inherited: dict[str, Any]) -> dict[str, Any]:
    """A stage that a child adds stands before the first one that names it, else at the end."""
    order = [name for name in stages if name in inherited]
    end = len(order)
    for name in reversed([name for name in stages if name not in inherited]):
        users = (n for n, other in enumerate(order) if _names(stages[other], name))
        place = next(users, end)
        order.insert(place, name)
        end += place < end
    return {name: stages[name] for name in order}


def _names(value: Any, stage: str) -> bool:
    if isinstance(value, dict):
        return any(_names(inner, stage) for key, inner in value.items() if key != "kind")
    if isinstance(value, list):
        return any(_names(inner, stage) for inner in value)
    return isinstance(value, str) and value.partition("@")[0] == stage


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key.strip()):
        raise ConfigError(f"--set expects key.path=value, got {override!r}")
    parsed, _ = parse_yaml(f"value: {text}", Path(f"--set {override}"))
    value: Any = parsed["value"]
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _validate(values: dict[str, Any], path: Path, lines: dict[KeyPath, int]) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _explain(error, values, path, lines) from None


def _explain(
    error: ValidationError, values: dict[str, Any], path: Path, lines: dict[KeyPath, int]
) -> ConfigError:
    """The first problem as one line: file, line, key, given, expected."""
    problem = min(error.errors(), key=lambda e: e["type"] not in _UNKNOWN)
    where = _without_tags(problem["loc"], values)
    line = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), None)
    key = ".".join(str(part) for part in where)
    if problem["type"] in _UNKNOWN:
        nearest = _nearest(str(where[-1]), _siblings(problem["loc"]))
        message = f"unknown key {key!r}{nearest}"
    elif problem["type"] == "missing":
        message = f"key {key!r} is missing"
    else:
        what = problem["msg"].removeprefix("Value error, ")
        given = "" if problem["type"] == "value_error" else f", got {problem['input']!r:.80}"
        message = f"key {key!r}: {what}{given}" if key else what
    return ConfigError(message, path=path, line=line)


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _without_tags(loc: tuple[int | str, ...], values: Any) -> KeyPath:
    """Drop the union tags that pydantic puts between the keys of a location."""
    path: list[str | int] = []
    for n, part in enumerate(loc):
        here = values[part] if _holds(values, part) else None
        is_last = n == len(loc) - 1
        if here is None and not is_last and not _holds(values, part):
            continue
        path.append(part)
        values = here
    return tuple(path)


def _holds(values: Any, part: int | str) -> bool:
    if isinstance(values, dict):
        return part in values
    return isinstance(values, list) and isinstance(part, int) and part < len(values)


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that are allowed where ``loc`` ends, read off the JSON Schema."""
    schema = Recipe.model_json_schema()
    node: dict[str, Any] = schema
    for part in loc[:-1]:
        node = _child(node, str(part), schema)
    return sorted(_resolve(node, schema).get("properties", {}))


def _child(node: dict[str, Any], part: str, schema: dict[str, Any]) -> dict[str, Any]:
    node = _resolve(node, schema)
    for branch in node.get("oneOf", []) + node.get("anyOf", []):
        found = _resolve(branch, schema)
        tag = found.get("properties", {}).get("kind", {}).get("const")
        if part in (tag, found.get("title")):
            return found
    if part in node.get("properties", {}):
        child: dict[str, Any] = node["properties"][part]
        return child
    more = node.get("additionalProperties", node.get("items", {}))
    return more if isinstance(more, dict) and more else node


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
