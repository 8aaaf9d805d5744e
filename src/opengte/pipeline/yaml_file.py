"""One YAML file comes in -> plain values and the line of every key.

Duplicate keys, tags and anchors that build objects are refused: a recipe is data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from opengte.errors import ConfigError

KeyPath = tuple[str | int, ...]
MAX_RECIPE_BYTES = 1 << 20


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Read ``path``.

    Returns:
        The mapping it holds, and for each key path the line (from 1) it stands on.

    Raises:
        ConfigError: the file is absent, not UTF-8, not YAML, not a mapping, or names a key twice.
    """
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise ConfigError(f"a recipe is at most {MAX_RECIPE_BYTES} bytes", path=path)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"expected UTF-8 text, byte {error.start} is not", path=path) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Parse ``text``; ``path`` only names it in errors."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigError(f"not valid YAML: {error.problem}", path=path, line=line) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}".replace("\n", " "), path=path) from error
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("expected a mapping of keys to values", path=path, line=1)
    lines: dict[KeyPath, int] = {}
    values = _construct(node, (), lines, path)
    return values, lines


def _construct(node: yaml.Node, where: KeyPath, lines: dict[KeyPath, int], path: Path) -> Any:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, where, lines, path)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*where, i), lines, path) for i, item in enumerate(node.value)]
    return _scalar(node, path)


def _construct_mapping(
    node: yaml.MappingNode, where: KeyPath, lines: dict[KeyPath, int], path: Path
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(key_node, path)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise ConfigError(f"a key must be text, got {key!r}", path=path, line=line)
        if key in values:
            raise ConfigError(f"key {key!r} stands here a second time", path=path, line=line)
        lines[(*where, key)] = line
        values[key] = _construct(value_node, (*where, key), lines, path)
    return values


def _scalar(node: yaml.Node, path: Path) -> Any:
    """YAML 1.2's numbers: 2e-5 is one, unlike in YAML 1.1."""
    line = node.start_mark.line + 1
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"not a plain value: {error}".split("\n")[0], path=path, line=line
        ) from error
    if isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style is None:
        try:
            return float(value) if value[:1] in "+-.0123456789" and "e" in value.lower() else value
        except ValueError:
            return value
    return value
