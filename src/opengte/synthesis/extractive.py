"""A chat model without a model: it answers our prompts with words of the document they show.

For trying a recipe where no endpoint is: queries are the longest words of one of the document's
sentences, near misses are its other sentences. What is learned from them is far from what a
language model's queries teach; every row and report names the writer.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DOCUMENT = re.compile(r"<document>\s*(.*?)\s*</document>", re.DOTALL)
SENTENCE = re.compile(r"[^.!?\n]+")
WORD = re.compile(r"[^\W_][\w'-]*")
WORDS_OF_A_QUERY = 6
LEAST_LETTERS = 4
"""Of a word worth asking for."""


class ExtractiveWriter:
    """Satisfies ``contracts.ChatModel``; equal messages get equal answers."""

    model = "extractive"

    def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        json_schema: Mapping[str, Any] | None = None,
    ) -> str:
        """JSON that satisfies the schema, or one query where there is none."""
        asked = "\n".join(message["content"] for message in messages)
        digest = hashlib.blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        draw = np.random.default_rng(int.from_bytes(digest, "little"))
        found = DOCUMENT.search(asked)
        sentences = _sentences(found.group(1) if found else asked)
        if json_schema is None:
            return _query(sentences, draw)
        return json.dumps(_fill(json_schema, "", sentences, draw), ensure_ascii=False)


def _fill(
    schema: Mapping[str, Any], name: str, sentences: Sequence[str], draw: np.random.Generator
) -> Any:
    if "enum" in schema:
        return schema["enum"][int(draw.integers(len(schema["enum"])))]
    kind = schema.get("type")
    if kind == "object":
        return {
            key: _fill(part, key, sentences, draw) for key, part in schema["properties"].items()
        }
    if kind == "array":
        number = min(int(schema.get("maxItems", 3)), max(3, int(schema.get("minItems", 1))))
        return [_fill(schema["items"], name, sentences, draw) for _ in range(number)]
    if kind == "integer":
        low = int(schema.get("minimum", 0))
        return int(draw.integers(low, int(schema.get("maximum", low)) + 1))
    if kind == "number":
        return float(schema.get("minimum", 0.0))
    if kind == "boolean":
        return bool(draw.integers(2))
    if name in ("positive", "hard_negative"):
        return _passage(sentences, draw)
    return _query(sentences, draw)


def _query(sentences: Sequence[str], draw: np.random.Generator) -> str:
    """The longest words of a sentence, in their order."""
    words = WORD.findall(sentences[int(draw.integers(len(sentences)))])
    worth = [word for word in dict.fromkeys(words) if len(word) >= LEAST_LETTERS] or words
    longest = set(sorted(worth, key=lambda word: (-len(word), word))[:WORDS_OF_A_QUERY])
    return " ".join(word.lower() for word in worth if word in longest) or "what is this about"


def _passage(sentences: Sequence[str], draw: np.random.Generator) -> str:
    """Half of the sentences, in another order."""
    number = max(1, len(sentences) // 2)
    chosen = draw.permutation(len(sentences))[:number].tolist()
    return ". ".join(sentences[i] for i in chosen) + "."


def _sentences(text: str) -> list[str]:
    found = [sentence.strip() for sentence in SENTENCE.findall(text)]
    kept = [sentence for sentence in found if len(WORD.findall(sentence)) >= 3]
    return kept or [text.strip() or "nothing"]
