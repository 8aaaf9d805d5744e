"""A key that no code reads is a promise nobody keeps: every field of every setting is read."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import opengte
from opengte.pipeline.recipe import Recipe

SOURCES = Path(opengte.__file__).parent


def settings(kind: Any, seen: dict[Any, list[str]]) -> None:
    """Collect every settings class that a recipe can hold, with its fields."""
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen[kind] = list(kind.model_fields)
        for info in kind.model_fields.values():
            settings(info.annotation, seen)
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind not in seen:
        seen[kind] = [field.name for field in dataclasses.fields(kind)]
        hints = __import__("typing").get_type_hints(kind)
        for hint in hints.values():
            settings(hint, seen)
    for inner in get_args(kind):
        settings(inner, seen)


def attribute_reads() -> Iterator[tuple[str, Path]]:
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                yield node.attr, file


COLLECTED: dict[Any, list[str]] = {}
settings(Recipe, COLLECTED)
READS = {name for name, _ in attribute_reads()}


@pytest.mark.parametrize("kind", list(COLLECTED), ids=lambda kind: kind.__name__)
def test_every_field_is_read_somewhere(kind: Any) -> None:
    unread = [name for name in COLLECTED[kind] if name not in READS]
    assert not unread, f"{kind.__name__}: no code reads {unread}"


def test_the_collection_reaches_the_rooms_own_settings() -> None:
    names = {kind.__name__ for kind in COLLECTED}
    assert {"TrainingConfig", "MixtureConfig", "MiningRules", "ImprovedContrastiveConfig"} <= names
