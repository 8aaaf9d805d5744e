"""The writer without a model: answers that satisfy every prompt of ours, from the text's words."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from opengte.json_schema import find_faults
from opengte.synthesis.extractive import ExtractiveWriter
from opengte.synthesis.prompts import load_prompt

PROMPTS = sorted(
    file.name.removesuffix(".yaml")
    for file in (resources.files("opengte.synthesis") / "templates").iterdir()
    if file.name.endswith(".yaml")
)
DOCUMENT = (
    "Glaciers carve valleys through mountains over millennia. Meltwater carries fine sediment "
    "into lakes below. Farmers downstream depend on late summer flows."
)


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_gets_an_answer_of_its_schema(name):
    prompt = load_prompt(name)
    asked = [{"role": "user", "content": f"<document>\n{DOCUMENT}\n</document>"}]
    answer = ExtractiveWriter().complete(asked, json_schema=prompt.answer)
    assert find_faults(json.loads(answer), prompt.answer) == []
    assert answer == ExtractiveWriter().complete(asked, json_schema=prompt.answer)


def test_queries_are_words_of_the_document():
    asked = [{"role": "user", "content": f"x <document>{DOCUMENT}</document> y"}]
    queries = json.loads(ExtractiveWriter().complete(asked, json_schema=load_prompt("gpl").answer))[
        "queries"
    ]
    assert len(queries) == 3
    for query in queries:
        assert set(query.split()) <= set(DOCUMENT.lower().replace(".", "").split())
