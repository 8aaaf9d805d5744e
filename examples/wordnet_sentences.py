"""WordNet's example sentences with one word replaced -> what the change does to their meaning.

A word's hypernym follows from the sentence, its hyponym may or may not hold, its antonym cannot
(monotonicity inference, after MoNLI, arXiv:2004.14623, and Natural Logic before it). Every
sentence and every relation is WordNet 3.0's own; only ``a`` and ``an`` are mended.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EXAMPLE = re.compile(r'"([^"]{20,120})"')
POINTERS = {"@": "hypernym", "~": "hyponym", "!": "antonym"}
SIMILARITY = {"synonym": 1.0, "hypernym": 0.75, "sister": 0.5, "antonym": 0.25, "other": 0.0}
"""How alike a sentence and its copy are said to be, by what the word was replaced with."""


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, its neighbours by relation, and sentences that use it."""

    words: tuple[str, ...]
    neighbours: dict[str, tuple[tuple[str, int, int], ...]]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A sentence, and the same with one word replaced by one that is related in this way."""

    sentence: str
    changed: str
    relation: str


def read_synsets(wordnet: Path) -> dict[str, Synset]:
    """Offset -> meaning, of the nouns and adjectives; keys are ``n00001740``."""
    found = {}
    for part, letter in (("noun", "n"), ("adj", "a")):
        for line in (wordnet / f"data.{part}").read_text("utf-8").splitlines():
            if not line.startswith("  "):
                facts, _, gloss = line.partition(" | ")
                found[letter + facts[:8]] = _synset(facts.split(), gloss)
    return found


def _synset(facts: list[str], gloss: str) -> Synset:
    num_words = int(facts[3], 16)
    words = [re.sub(r"\(\w+\)$", "", facts[4 + 2 * i]) for i in range(num_words)]
    at = 4 + 2 * num_words
    neighbours: dict[str, list[tuple[str, int, int]]] = {}
    for n in range(int(facts[at])):
        symbol, offset, part, ends = facts[at + 1 + 4 * n : at + 5 + 4 * n]
        if symbol in POINTERS and part in "nas":
            key = ("n" if part == "n" else "a") + offset
            link = (key, int(ends[:2], 16), int(ends[2:], 16))
            neighbours.setdefault(POINTERS[symbol], []).append(link)
    return Synset(
        tuple(word.replace("_", " ") for word in words),
        {name: tuple(links) for name, links in neighbours.items()},
        tuple(EXAMPLE.findall(gloss)),
    )


def changes(synsets: dict[str, Synset], *, seed: str) -> Iterator[list[Change]]:
    """For each usable sentence the changes that can be made to it, in WordNet's order."""
    for key, synset in synsets.items():
        generator = random.Random(f"{seed}/{key}")
        for sentence in synset.examples:
            for position, word in enumerate(synset.words, start=1):
                if len(re.findall(rf"\b{re.escape(word)}\b", sentence)) == 1:
                    made = list(_changes(sentence, word, position, synset, synsets, generator))
                    if made:
                        yield made
                    break


def _changes(
    sentence: str,
    word: str,
    position: int,
    synset: Synset,
    synsets: dict[str, Synset],
    generator: random.Random,
) -> Iterator[Change]:
    others = {"synonym": [w for w in synset.words if w != word]}
    for relation in ("hypernym", "hyponym"):
        keys = [link[0] for link in synset.neighbours.get(relation, ())]
        others[relation] = [synsets[key].words[0] for key in keys]
    above = [link[0] for link in synset.neighbours.get("hypernym", ())]
    sisters = {s for key in above for s, _, _ in synsets[key].neighbours.get("hyponym", ())}
    others["sister"] = sorted({synsets[key].words[0] for key in sisters} - {*synset.words})
    links = synset.neighbours.get("antonym", ())
    others["antonym"] = [synsets[k].words[to - 1] for k, here, to in links if here == position]
    for relation, words in others.items():
        usable = [w for w in words if re.fullmatch(r"[a-z][a-z -]*", w) and w.count(" ") < 2]
        if usable:
            yield Change(sentence, _replace(sentence, word, generator.choice(usable)), relation)


def _replace(sentence: str, word: str, other: str) -> str:
    """``other`` in the place of ``word``, with the article that it needs."""
    article = "an" if other[0] in "aeiou" else "a"
    return re.sub(
        rf"(?:\b(a|an|A|An) )?\b{re.escape(word)}\b",
        lambda found: (
            (f"{article.title() if found[1][0] == 'A' else article} " if found[1] else "") + other
        ),
        sentence,
        count=1,
    )
