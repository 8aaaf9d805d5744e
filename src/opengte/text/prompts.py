"""What is put in front of a text, by side and by task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opengte.errors import ConfigError
from opengte.records import Kind

INSTRUCTION_TEMPLATE = "Instruct: {instruction}\nQuery: "
"""The form that E5-mistral, gte-Qwen2, Linq and Qwen3-Embedding share (Wang et al. 2024)."""


@dataclass(frozen=True)
class Prompts:
    """The texts a model expects in front of its inputs.

    Attributes:
        query: in front of texts of kind ``query``.
        document: in front of texts of kind ``document``.
        by_task: further prompts by name, e.g. ``{"clustering": "Identify the topic: "}``.
    """

    query: str = ""
    document: str = ""
    by_task: Mapping[str, str] = field(default_factory=dict)

    def resolve(
        self, *, kind: Kind | None = None, prompt: str | None = None, task: str | None = None
    ) -> str:
        """The prompt to use: ``prompt`` if given, else that of ``task``, else that of ``kind``.

        Raises:
            ConfigError: ``task`` or ``kind`` is not known.
        """
        if prompt is not None:
            return prompt
        if task is not None:
            if task not in self.by_task:
                known = ", ".join(sorted(self.by_task)) or "none"
                raise ConfigError(f"no prompt for task {task!r}; the model has: {known}")
            return self.by_task[task]
        if kind is None:
            return ""
        if kind not in ("query", "document"):
            raise ConfigError(f"kind must be 'query', 'document' or None, got {kind!r}")
        return self.query if kind == "query" else self.document

    def to_dict(self) -> dict[str, str]:
        """The ``prompts`` of a sentence-transformers folder."""
        return {"query": self.query, "document": self.document, **self.by_task}

    @classmethod
    def from_dict(cls, prompts: Mapping[str, Any]) -> Prompts:
        """Read the ``prompts`` of a sentence-transformers folder; ``passage`` means document."""
        rest = {
            name: str(text)
            for name, text in prompts.items()
            if name not in ("query", "document", "passage")
        }
        document = prompts.get("document") or prompts.get("passage") or ""
        return cls(query=prompts.get("query") or "", document=document, by_task=rest)


def instruction_prompt(instruction: str) -> str:
    """The prompt of instruction-tuned models: ``Instruct: ...``, a line end, ``Query: ``."""
    return INSTRUCTION_TEMPLATE.format(instruction=instruction)
