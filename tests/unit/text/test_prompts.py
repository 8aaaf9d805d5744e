from __future__ import annotations

import pytest

from opengte.errors import ConfigError
from opengte.text.prompts import Prompts, instruction_prompt

PROMPTS = Prompts(query="query: ", document="passage: ", by_task={"clustering": "Topic: "})


def test_an_explicit_prompt_beats_task_and_kind():
    assert PROMPTS.resolve(kind="query", task="clustering", prompt="x ") == "x "
    assert PROMPTS.resolve(kind="query", task="clustering") == "Topic: "
    assert PROMPTS.resolve(kind="query") == "query: "
    assert PROMPTS.resolve(kind="document") == "passage: "
    assert PROMPTS.resolve() == ""


def test_an_empty_explicit_prompt_means_none():
    assert PROMPTS.resolve(kind="query", prompt="") == ""


def test_round_trip_through_the_sentence_transformers_form():
    assert Prompts.from_dict(PROMPTS.to_dict()) == PROMPTS


def test_passage_is_read_as_document():
    assert Prompts.from_dict({"passage": "p: "}).document == "p: "


def test_unknown_task_names_the_known_ones():
    with pytest.raises(ConfigError, match="no prompt for task 'sts'; the model has: clustering"):
        PROMPTS.resolve(task="sts")


def test_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="kind must be 'query', 'document' or None, got 'doc'"):
        PROMPTS.resolve(kind="doc")  # type: ignore[arg-type]


def test_instruction_prompt_is_the_published_form():
    assert instruction_prompt("Find it.") == "Instruct: Find it.\nQuery: "
