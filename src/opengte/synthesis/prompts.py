"""Prompt files -> messages and the schema of the answer.

A prompt is a YAML file with ``system``, ``user`` and ``answer`` (a JSON schema); ``$name`` marks
what is filled in. Filling in is plain text: what stands in a document is never interpreted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import yaml

from opengte.errors import ConfigError
from opengte.json_schema import check_schema

_KEYS = {"system", "user", "answer"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt file.

    Attributes:
        name: of the file, without ``.yaml``.
        system, user: texts with ``$name`` where something is filled in.
        answer: JSON schema.
        fingerprint: sixteen hex digits of the file's content; kept with every row.
        content: the file itself.
    """

    name: str
    system: str
    user: str
    answer: Mapping[str, Any]
    fingerprint: str
    content: str

    def messages(self, **values: object) -> list[dict[str, str]]:
        """The two messages with ``values`` filled in.

        Raises:
            ConfigError: the prompt wants a value that there is not.
        """
        try:
            filled = {
                "system": Template(self.system).substitute(values),
                "user": Template(self.user).substitute(values),
            }
        except (KeyError, ValueError) as error:
            known = ", ".join(sorted(values))
            raise ConfigError(
                f"prompt {self.name!r} holds {error}, which cannot be filled in; known are {known} "
                "(write $$ for a dollar sign)"
            ) from error
        return [{"role": role, "content": text.strip()} for role, text in filled.items()]


def load_prompt(name: str, folder: str | Path = "") -> Prompt:
    """Read a prompt from ``folder`` where it has one of that name, else ours.

    Raises:
        ConfigError: the file is not a prompt.
    """
    own = Path(folder) / f"{name}.yaml" if folder else None
    if own is not None and own.exists():
        content, where = own.read_text(encoding="utf-8"), own
    else:
        content, where = _ours(f"{name}.yaml"), None
    try:
        fields = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ConfigError(f"prompt {name!r} is not YAML", path=where) from error
    if not isinstance(fields, dict) or set(fields) != _KEYS:
        found = sorted(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
        raise ConfigError(
            f"prompt {name!r} must hold answer, system and user, found {found}", path=where
        )
    check_schema(fields["answer"], f"the answer of prompt {name!r}")
    fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
    return Prompt(name=name, fingerprint=fingerprint, content=content, **fields)


def load_lines(name: str) -> tuple[str, ...]:
    """The lines of one of our lists, ``people`` or ``subjects``."""
    return tuple(line for line in _ours(f"{name}.txt").splitlines() if line)


def _ours(file: str) -> str:
    return resources.files("opengte.synthesis").joinpath("templates", file).read_text("utf-8")
