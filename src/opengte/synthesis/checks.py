"""Drafts -> pairs; every draft and every negative that is thrown away is counted with its reason.

A model asked for a query likes to copy the document, to speak of "the passage", and to ask the
same thing twice: what it teaches then is copying.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import TextEncoder
from opengte.errors import DataError
from opengte.records import Document, Kind, Pair
from opengte.synthesis.config import SynthesisConfig
from opengte.synthesis.drafts import Draft
from opengte.text.text_keys import (
    contains_run,
    jaccard,
    longest_shared_run,
    shingles,
    text_key,
    weigh_words,
    words,
)

NUM_EXAMPLES = 20
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NEAR_DUPLICATE = 0.8
# "in the text" alone would catch "in the text editor": only what points at a text shown before.
_TEXT = r"(?:document|passage|text|article|excerpt|snippet)\b"
_MENTIONS = re.compile(
    rf"\b(?:according to|based on|(?:mentioned|described|discussed) in)\s+(?:the|this)\s+{_TEXT}"
    rf"|\b(?:in|of|from|by)\s+this\s+{_TEXT}|\bthis\s+(?:document|passage|excerpt|snippet)\b"
    rf"|\bthe\s+(?:above|given|provided)\s+{_TEXT}"
    r"|\b(?:laut dem|laut diesem|in diesem)\s+(?:text|dokument|abschnitt)\b"
    r"|(?:根据|依据|基于|按照)(?:本文|上文|文中|上述|该文|这篇|这段)|上述文本|这篇文章|这段文字",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class MadePair:
    """A pair that passed, and how it was made.

    Attributes:
        pair: ready for training.
        made: method, model, prompts and everything that was drawn for it.
    """

    pair: Pair
    made: Mapping[str, Any]


@dataclass
class Losses:
    """What was thrown away, by reason: a count and up to twenty examples."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def add(self, reason: str, **texts: str) -> None:
        """Count one, and keep it where there are few examples yet."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < NUM_EXAMPLES:
            kept.append({name: text[:400] for name, text in texts.items()})


class DraftChecker:
    """Looks at drafts one after the other; what was seen before decides what is a duplicate."""

    def __init__(self, config: SynthesisConfig) -> None:
        self._config = config
        self._queries: set[tuple[str, ...]] = set()
        self._queries_of: dict[int, list[frozenset[tuple[str, ...]]]] = {}
        self.losses = Losses()

    def check(self, draft: Draft, document: Document | None) -> Pair | None:
        """The pair of a draft; None where it was thrown away."""
        positive = draft.positive or ("" if document is None else document.full_text)
        query = draft.query.strip()
        fault = self._fault(query, positive, shown=document is not None)
        if fault is not None:
            self.losses.add(fault, query=query, positive=positive)
            return None
        self._queries.add(words(query))
        self._queries_of.setdefault(text_key(positive), []).append(shingles(words(query)))
        return Pair(
            query=query,
            positive=positive,
            negatives=self._negatives(draft, query, positive),
            group="" if document is None else document.group,
            kind=f"synthetic-{document.kind}" if document and document.kind else "synthetic",
            origin="" if document is None else document.origin or document.id,
        )

    def _fault(self, query: str, positive: str, *, shown: bool) -> str | None:
        query_words, positive_words = words(query), words(positive)
        if not query_words or not positive_words:
            return "empty"
        if text_key(query) == text_key(positive):
            return "query_is_positive"
        if shown and _MENTIONS.search(query):
            return "mentions_the_document"
        if contains_run(query_words, positive_words) or self._is_copied(
            query_words, positive_words
        ):
            return "leak"
        if query_words in self._queries:
            return "duplicate"
        own = shingles(query_words)
        others = self._queries_of.get(text_key(positive), ())
        if any(jaccard(own, other) >= _NEAR_DUPLICATE for other in others):
            return "near_duplicate"
        return None

    def _is_copied(self, query_words: tuple[str, ...], positive_words: tuple[str, ...]) -> bool:
        copied = weigh_words(longest_shared_run(query_words, positive_words))
        share = copied / weigh_words(query_words)
        config = self._config
        return copied >= config.min_copied_words and share > config.max_copied_share

    def _negatives(self, draft: Draft, query: str, positive: str) -> tuple[str, ...]:
        kept: dict[int, str] = {}
        for text in map(str.strip, draft.negatives):
            fault = _negative_fault(text, query, positive)
            if fault is not None:
                self.losses.add(fault, query=query, positive=positive, negative=text)
            else:
                kept.setdefault(text_key(text), text)
        return tuple(kept.values())


def _negative_fault(text: str, query: str, positive: str) -> str | None:
    if not words(text):
        return "negative_is_empty"
    if text_key(text) == text_key(query):
        return "negative_is_query"
    own, other = shingles(words(text)), shingles(words(positive))
    if text_key(text) == text_key(positive) or jaccard(own, other) >= _NEAR_DUPLICATE:
        return "negative_is_positive"
    return None


def drop_dissimilar(
    made: Sequence[MadePair],
    encoder: TextEncoder,
    min_cosine: float,
    losses: Losses,
    *,
    block_pairs: int = 1024,
) -> tuple[list[MadePair], dict[str, float]]:
    """Keep pairs whose query and positive have at least this cosine (Qwen3: 0.7).

    A made-up negative nearer to the query than the positive is left out too.

    Returns:
        What stays, and the quantiles of all cosines.
    """
    kept: list[MadePair] = []
    cosines: list[NDArray[np.float32]] = []
    for first in range(0, len(made), block_pairs):
        part = made[first : first + block_pairs]
        queries = _unit(encoder, [m.pair.query for m in part], "query")
        positives = _unit(encoder, [m.pair.positive for m in part], "document")
        own = np.einsum("nd,nd->n", queries, positives)
        cosines.append(own)
        for one, query, cosine in zip(part, queries, own, strict=True):
            if cosine < min_cosine:
                losses.add("low_cosine", query=one.pair.query, positive=one.pair.positive)
                continue
            kept.append(_without_near_negatives(one, query, float(cosine), encoder, losses))
    values = np.concatenate([*cosines, np.empty(0, np.float32)])
    if len(values) == 0:
        return kept, {}
    found = np.quantile(values, _QUANTILES)
    return kept, {f"{q:.2f}": round(float(v), 6) for q, v in zip(_QUANTILES, found, strict=True)}


def _without_near_negatives(
    made: MadePair,
    query: NDArray[np.float32],
    cosine: float,
    encoder: TextEncoder,
    losses: Losses,
) -> MadePair:
    negatives = made.pair.negatives
    if not negatives:
        return made
    near = _unit(encoder, negatives, "document") @ query >= cosine
    for text in np.array(negatives, dtype=object)[near]:
        pair = made.pair
        losses.add("near_negative", query=pair.query, positive=pair.positive, negative=text)
    kept = tuple(text for text, is_near in zip(negatives, near, strict=True) if not is_near)
    return MadePair(replace(made.pair, negatives=kept), made.made)


def _unit(encoder: TextEncoder, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
    vectors = encoder.encode(list(texts), kind=kind)
    if not np.isfinite(vectors).all():
        raise DataError("the encoder of the cosine filter gave values that are not finite")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return unit
