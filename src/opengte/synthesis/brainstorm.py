"""E5-mistral's two steps: tasks are invented first, then examples of each are written.

Kinds: ``grounded`` writes a query and a near miss for a given document under an invented task;
``short_long``, ``long_short``, ``short_short`` and ``long_long`` write whole triples; ``sts`` and
``bitext`` have no task and draw their subject instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from opengte.contracts import ChatModel
from opengte.errors import ConfigError
from opengte.records import Document
from opengte.synthesis.config import BrainstormConfig, BrainstormKind, SynthesisConfig
from opengte.synthesis.drafts import (
    Draft,
    Item,
    drafts_record,
    draw_one,
    generator_of,
    item_key,
    shown_text,
)
from opengte.synthesis.prompts import Prompt, load_lines, load_prompt
from opengte.text.text_keys import text_key

_TASKS_PER_CALL = 20
_TASTE_CHARACTERS = 300
_UNTASKED = ("sts", "bitext")
_UNITS = ("sentence", "short passage of two or three sentences", "question", "headline")
_HIGH_GRADES = ("nearly the same", "the same but for a detail", "the same in other words")
_LOW_GRADES = ("something else", "the opposite in one point", "something only loosely related")


class Brainstorm:
    """See the module."""

    def __init__(self, method: BrainstormConfig, config: SynthesisConfig) -> None:
        self._method = method
        self._config = config
        if "bitext" in method.example_kinds and len(config.languages) < 2:
            raise ConfigError("bitext needs at least two languages")
        folder = config.prompts
        self._task_prompts = {
            kind: load_prompt(f"brainstorm_tasks_{_task_kind(kind)}", folder)
            for kind in method.example_kinds
            if kind not in _UNTASKED
        }
        self._row_prompts = {
            kind: load_prompt(f"brainstorm_{kind}", folder) for kind in method.example_kinds
        }

    @property
    def prompts(self) -> Sequence[Prompt]:
        """See ``Method``."""
        return [*self._task_prompts.values(), *self._row_prompts.values()]

    def plan(
        self, documents: Sequence[Document], records: Mapping[str, Mapping[str, Any]]
    ) -> list[Item]:
        """First the calls that invent tasks; with all of those recorded, the examples."""
        items = [
            self._task_item(kind, call, documents)
            for kind in self._task_prompts
            for call in range(-(-self._method.num_tasks // _TASKS_PER_CALL))
        ]
        if any(item.key not in records for item in items):
            return items
        for kind in self._method.example_kinds:
            tasks = [] if kind in _UNTASKED else self._tasks(kind, records)
            items += self._row_items(kind, tasks, documents)
        return items

    def _task_key(self, kind: BrainstormKind, call: int) -> str:
        return item_key("brainstorm tasks", kind, call)

    def _task_item(self, kind: BrainstormKind, call: int, documents: Sequence[Document]) -> Item:
        prompt = self._task_prompts[kind]
        key = self._task_key(kind, call)

        def make(chat: ChatModel) -> dict[str, Any]:
            messages = prompt.messages(
                count=min(_TASKS_PER_CALL, self._method.num_tasks),
                taste=self._taste(documents, generator_of(self._config.seed, key)),
            )
            return {
                "tasks": json.loads(chat.complete(messages, json_schema=prompt.answer))["tasks"]
            }

        return Item(key, make)

    def _taste(self, documents: Sequence[Document], rng: np.random.Generator) -> str:
        number = min(self._method.taste, len(documents))
        if number == 0:
            return ""
        rows = rng.choice(len(documents), size=number, replace=False).tolist()
        shown = "\n".join(f"- {shown_text(documents[row], _TASTE_CHARACTERS)}" for row in rows)
        return f"\nThe tasks must suit a collection that holds texts such as these:\n{shown}\n"

    def _tasks(self, kind: BrainstormKind, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The distinct tasks that were invented, at most as many as were asked for."""
        calls = range(-(-self._method.num_tasks // _TASKS_PER_CALL))
        found: dict[int, str] = {}
        for call in calls:
            for task in records[self._task_key(kind, call)].get("tasks", ()):
                found.setdefault(text_key(task), task.strip())
        return list(found.values())[: self._method.num_tasks]

    def _row_items(
        self, kind: BrainstormKind, tasks: Sequence[str], documents: Sequence[Document]
    ) -> Iterator[Item]:
        if kind == "grounded":
            for document in documents if tasks else ():
                key = item_key("brainstorm", kind, document.full_text)
                task = draw_one(generator_of(self._config.seed, key, "task"), tasks)
                yield self._row_item(kind, key, task, document)
            return
        subjects = tasks if kind not in _UNTASKED else [""] * self._method.num_tasks
        for number, task in enumerate(subjects):
            for row in range(self._method.rows_per_task):
                key = item_key("brainstorm", kind, task or number, row)
                yield self._row_item(kind, key, task, None)

    def _row_item(
        self, kind: BrainstormKind, key: str, task: str, document: Document | None
    ) -> Item:
        prompt = self._row_prompts[kind]

        def make(chat: ChatModel) -> dict[str, Any]:
            settings = self._settings(kind, generator_of(self._config.seed, key), task)
            shown = {}
            if document is not None:
                limit = self._config.max_document_characters
                shown["document"] = shown_text(document, limit)
            messages = prompt.messages(**settings, **shown)
            answer = json.loads(chat.complete(messages, json_schema=prompt.answer))
            draft = Draft(
                query=answer["query"],
                positive=answer.get("positive", ""),
                negatives=(answer["hard_negative"],),
                settings={"example_kind": kind, **settings},
                prompts={
                    used.name: used.fingerprint
                    for used in (self._task_prompts.get(kind), prompt)
                    if used is not None
                },
            )
            return drafts_record([draft])

        return Item(key, make, document)

    def _settings(
        self, kind: BrainstormKind, rng: np.random.Generator, task: str
    ) -> dict[str, Any]:
        method = self._method
        languages = list(rng.permutation(list(self._config.languages)))
        settings: dict[str, Any] = {
            "language": str(languages[0]),
            "difficulty": draw_one(rng, method.difficulties),
        }
        if kind in _UNTASKED:
            settings["subject"] = draw_one(rng, load_lines("subjects"))
            settings["unit"] = draw_one(rng, _UNITS)
            if kind == "bitext":
                settings["other_language"] = str(languages[1])
            else:
                settings["high_grade"] = draw_one(rng, _HIGH_GRADES)
                settings["low_grade"] = draw_one(rng, _LOW_GRADES)
            return settings
        settings["task"] = task
        settings["query_style"] = draw_one(rng, method.query_styles)
        settings["query_length"] = draw_one(rng, method.query_lengths)
        settings["document_length"] = draw_one(rng, method.document_lengths)
        return settings


def _task_kind(kind: BrainstormKind) -> str:
    # A grounded example is a short query for a longer text.
    return "short_long" if kind == "grounded" else kind
