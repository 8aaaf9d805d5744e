"""The methods that ask about each document: GPL, persona, crafted. See ``config`` for sources."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from opengte.contracts import ChatModel
from opengte.records import Document
from opengte.synthesis.brainstorm import Brainstorm
from opengte.synthesis.config import (
    QUESTION_TYPES,
    BrainstormConfig,
    CraftedConfig,
    GplConfig,
    PersonaConfig,
    SynthesisConfig,
)
from opengte.synthesis.drafts import (
    Draft,
    Item,
    Method,
    drafts_record,
    draw_one,
    generator_of,
    item_key,
    shown_text,
)
from opengte.synthesis.prompts import Prompt, load_lines, load_prompt


def make_method(config: SynthesisConfig) -> Method:
    """The method that ``config`` names."""
    method = config.method
    if isinstance(method, GplConfig):
        return Gpl(method, config)
    if isinstance(method, PersonaConfig):
        return Persona(method, config)
    if isinstance(method, CraftedConfig):
        return Crafted(method, config)
    assert isinstance(method, BrainstormConfig)
    return Brainstorm(method, config)


class Gpl:
    """One call a document; several queries come back."""

    def __init__(self, method: GplConfig, config: SynthesisConfig) -> None:
        self._method = method
        self._config = config
        self._prompt = load_prompt("gpl", config.prompts)

    @property
    def prompts(self) -> Sequence[Prompt]:
        """See ``Method``."""
        return [self._prompt]

    def plan(
        self, documents: Sequence[Document], records: Mapping[str, Mapping[str, Any]]
    ) -> list[Item]:
        """See ``Method``."""
        return [self._item(document) for document in documents]

    def _item(self, document: Document) -> Item:
        key = item_key("gpl", document.full_text)
        count = self._method.queries_per_document
        language = draw_one(generator_of(self._config.seed, key), self._config.languages)

        def make(chat: ChatModel) -> dict[str, Any]:
            messages = self._prompt.messages(
                document=shown_text(document, self._config.max_document_characters),
                count=count,
                language=language,
            )
            answer = json.loads(chat.complete(messages, json_schema=self._prompt.answer))
            return drafts_record(
                [
                    Draft(
                        query=query,
                        settings={"language": language},
                        prompts={self._prompt.name: self._prompt.fingerprint},
                    )
                    for query in answer["queries"][:count]
                ]
            )

        return Item(key, make, document)


class Persona:
    """Two calls a query: who asks what and how, then the query."""

    def __init__(self, method: PersonaConfig, config: SynthesisConfig) -> None:
        self._method = method
        self._config = config
        self._people = method.people or load_lines("people")
        self._choose = load_prompt("persona_choose", config.prompts)
        self._ask = load_prompt("persona_ask", config.prompts)

    @property
    def prompts(self) -> Sequence[Prompt]:
        """See ``Method``."""
        return [self._choose, self._ask]

    def plan(
        self, documents: Sequence[Document], records: Mapping[str, Mapping[str, Any]]
    ) -> list[Item]:
        """See ``Method``."""
        return [
            self._item(document, number)
            for document in documents
            for number in range(self._method.queries_per_document)
        ]

    def _item(self, document: Document, number: int) -> Item:
        key = item_key("persona", document.full_text, number)

        def make(chat: ChatModel) -> dict[str, Any]:
            return drafts_record([self._make(chat, document, key)])

        return Item(key, make, document)

    def _make(self, chat: ChatModel, document: Document, key: str) -> Draft:
        method = self._method
        rng = generator_of(self._config.seed, key)
        people = [
            self._people[i]
            for i in rng.choice(len(self._people), size=method.num_people, replace=False).tolist()
        ]
        text = shown_text(document, self._config.max_document_characters)
        messages = self._choose.messages(
            document=text,
            people="\n".join(f"{number}. {person}" for number, person in enumerate(people, 1)),
            question_types=", ".join(method.question_types),
            difficulties=", ".join(method.difficulties),
        )
        schema = _choices(self._choose.answer, method, len(people))
        chosen = json.loads(chat.complete(messages, json_schema=schema))
        settings = {
            "person": people[int(chosen["person"]) - 1],
            "question_type": chosen["question_type"],
            "difficulty": chosen["difficulty"],
            "length": draw_one(rng, method.lengths),
            "language": draw_one(rng, self._config.languages),
        }
        meaning = QUESTION_TYPES.get(settings["question_type"], settings["question_type"])
        messages = self._ask.messages(document=text, question_type_meaning=meaning, **settings)
        answer = json.loads(chat.complete(messages, json_schema=self._ask.answer))
        return Draft(
            query=answer["query"],
            settings=settings,
            prompts={prompt.name: prompt.fingerprint for prompt in self.prompts},
        )


class Crafted:
    """One call for each document and task: query and near miss."""

    def __init__(self, method: CraftedConfig, config: SynthesisConfig) -> None:
        self._config = config
        self._tasks = {
            task: load_prompt(f"crafted_{task}", config.prompts) for task in method.tasks
        }

    @property
    def prompts(self) -> Sequence[Prompt]:
        """See ``Method``."""
        return list(self._tasks.values())

    def plan(
        self, documents: Sequence[Document], records: Mapping[str, Mapping[str, Any]]
    ) -> list[Item]:
        """See ``Method``."""
        return [
            self._item(document, task, prompt)
            for document in documents
            for task, prompt in self._tasks.items()
        ]

    def _item(self, document: Document, task: str, prompt: Prompt) -> Item:
        key = item_key("crafted", task, document.full_text)
        language = draw_one(generator_of(self._config.seed, key), self._config.languages)

        def make(chat: ChatModel) -> dict[str, Any]:
            text = shown_text(document, self._config.max_document_characters)
            messages = prompt.messages(document=text, language=language)
            answer = json.loads(chat.complete(messages, json_schema=prompt.answer))
            draft = Draft(
                query=answer["query"],
                negatives=(answer["hard_negative"],),
                settings={"task": task, "language": language},
                prompts={prompt.name: prompt.fingerprint},
            )
            return drafts_record([draft])

        return Item(key, make, document)


def _choices(
    schema: Mapping[str, Any], method: PersonaConfig, num_people: int
) -> Mapping[str, Any]:
    """The schema of the first call, narrowed to what can be chosen this time."""
    properties = {
        **schema["properties"],
        "person": {"type": "integer", "minimum": 1, "maximum": num_people},
        "question_type": {"type": "string", "enum": list(method.question_types)},
        "difficulty": {"type": "string", "enum": list(method.difficulties)},
    }
    return {**schema, "properties": properties}
