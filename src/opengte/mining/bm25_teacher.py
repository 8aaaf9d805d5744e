"""A corpus -> rankings by shared words: the teacher that needs no model.

Axes: Q queries, M rows of the corpus, of which the first N may be ranked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opengte.atomic import atomic_folder
from opengte.contracts import Progress
from opengte.mining.claims import claim
from opengte.mining.teachers import Ranker, Ranking, Rows, Scores
from opengte.search.bm25 import BM25Index
from opengte.text.text_keys import fingerprint_texts


@dataclass(frozen=True)
class BM25Teacher:
    """Ranks by BM25. A document that shares no word with a query is never ranked.

    Args:
        tokenizer: ``words``, ``words:LANGUAGE``, ``code`` (camelCase and snake_case are split)
            or ``chinese``.
        k1: saturation of the term frequency.
        b: share of length normalisation.
    """

    tokenizer: str = "words"
    k1: float = 1.5
    b: float = 0.75

    @property
    def fingerprint(self) -> str:
        """Names the settings."""
        return f"bm25:{self.tokenizer}:{self.k1}:{self.b}"

    def open(
        self,
        texts: Sequence[str],
        *,
        folder: Path,
        num_ranked: int | None = None,
        progress: Progress | None = None,
    ) -> Ranker:
        """Index ``texts``, or find them indexed."""
        facts = [self.fingerprint, fingerprint_texts(texts)]
        name = f"bm25-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"
        with claim(folder / f"{name}.claim", wait=True):
            if not (folder / name).exists():
                index = BM25Index.build(texts, tokenizer=self.tokenizer, k1=self.k1, b=self.b)
                with atomic_folder(folder / name) as fresh:
                    index.save(fresh)
        if progress is not None:
            progress(len(texts), len(texts))
        number = len(texts) if num_ranked is None else num_ranked
        return BM25Ranker(BM25Index.load(folder / name), num_ranked=number)


class BM25Ranker:
    """The ranker of ``BM25Teacher``."""

    def __init__(self, index: BM25Index, *, num_ranked: int) -> None:
        self._index = index
        self._num_ranked = num_ranked

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """See ``Ranker``."""
        unranked = len(self._index) - self._num_ranked
        rankings = []
        for scores, rows in self._index.search_rows(queries, k + unranked):
            ranked = rows < self._num_ranked
            rankings.append(Ranking(rows=rows[ranked][:k], scores=scores[ranked][:k]))
        return rankings

    def score(self, queries: Sequence[str], rows: Sequence[Rows]) -> list[Scores]:
        """See ``Ranker``; 0 where no word is shared."""
        found = self._index.search_rows(queries, len(self._index))
        return [
            _pick(wanted, matching, scores)
            for wanted, (scores, matching) in zip(rows, found, strict=True)
        ]


def _pick(wanted: Rows, rows: Rows, scores: Scores) -> Scores:
    """The scores of ``wanted`` among the matching ``rows``; 0 for those that do not match."""
    order = np.argsort(rows)
    places = np.searchsorted(rows, wanted, sorter=order)
    picked = np.zeros(len(wanted), dtype=np.float32)
    inside = np.flatnonzero(places < len(rows))
    candidates = order[places[inside]]
    match = rows[candidates] == wanted[inside]
    picked[inside[match]] = scores[candidates[match]]
    return picked
