"""Rows of whole packages held out -> searches with a pool of documents, in BEIR layout.

Identical queries become one, and every function that one of them describes counts as relevant.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opengte.atomic import write_text
from opengte.data.near_duplicates import near_duplicate_groups
from opengte.data.writers import write_beir
from opengte.pipeline.corpus.collect import package_of
from opengte.pipeline.corpus.names import mask_name
from opengte.records import Document, Pair, Query

LOW_OVERLAP_SHARE = 1 / 3
POOL_THRESHOLD = 0.7


@dataclass(frozen=True)
class HeldOut:
    """Searches nobody trained on.

    Attributes:
        queries: what is asked.
        documents: the pool; relevant ones among it.
        qrels: query id -> document id -> 1.
        slices: name -> query ids.
        masked: document id -> its text without the names that give it away.
    """

    queries: tuple[Query, ...]
    documents: tuple[Document, ...]
    qrels: Mapping[str, Mapping[str, int]]
    slices: Mapping[str, tuple[str, ...]]
    masked: Mapping[str, str]

    def write(self, folder: Path, split: str) -> None:
        """BEIR files, ``slices.json`` and ``masked.jsonl`` into ``folder``."""
        write_beir(folder, corpus=self.documents, queries=self.queries, qrels={split: self.qrels})
        groups = {query.id: query.group for query in self.queries}
        write_text(
            folder / "slices.json",
            json.dumps({"groups": groups, "slices": self.slices}, ensure_ascii=False, indent=1),
        )
        lines = (
            json.dumps({"_id": i, "text": t}, ensure_ascii=False) for i, t in self.masked.items()
        )
        write_text(folder / "masked.jsonl", "".join(line + "\n" for line in lines))


def build_held_out(
    pairs: Sequence[Pair],
    distractors: Sequence[Document],
    *,
    num_queries: int,
    num_documents: int,
    names: Mapping[str, str],
    seen_packages: frozenset[str],
    seed: int,
) -> HeldOut:
    """Searches out of held-out ``pairs``.

    Args:
        pairs: rows of the groups held out.
        distractors: documents that answer none of them, best first to keep.
        num_queries: queries drawn, over all groups as evenly as they allow.
        num_documents: size of the pool.
        names: origin of a function -> the name to mask in it.
        seen_packages: packages that some training row comes from.
        seed: of the draw.
    """
    merged = _merge_identical_queries(pairs)
    chosen = _draw_evenly(merged, num_queries, seed=seed)
    queries, qrels, documents = _queries_and_answers(chosen)
    pool = [*documents.values(), *_unlike(documents.values(), distractors, num_documents)]
    pool.sort(key=lambda document: document.id)
    masked = {
        document.id: mask_name(document.text, names[document.origin])
        for document in documents.values()
        if names.get(document.origin)
    }
    slices = {
        "all": tuple(query.id for query in queries),
        "name_masked": tuple(
            query.id for query in queries if any(doc in masked for doc in qrels[query.id])
        ),
        "low_overlap": _lowest_overlap(queries, qrels, pool),
        "unseen_package": tuple(
            query.id for query in queries if package_of(query.group) not in seen_packages
        ),
    }
    return HeldOut(tuple(queries), tuple(pool), qrels, slices, masked)


def normalise_query(text: str) -> str:
    """What makes two queries the same one: case, white space and a last full stop aside."""
    return re.sub(r"\s+", " ", text).strip().rstrip(". ").lower()


def _merge_identical_queries(pairs: Sequence[Pair]) -> list[list[Pair]]:
    merged: dict[str, list[Pair]] = {}
    for pair in pairs:
        merged.setdefault(normalise_query(pair.query), []).append(pair)
    return list(merged.values())


def _draw_evenly(rows: Sequence[list[Pair]], number: int, *, seed: int) -> list[list[Pair]]:
    """``number`` of ``rows``, so that no group gives more than it must."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    taken: Counter[str] = Counter()
    turns: list[tuple[int, int, list[Pair]]] = []
    for row in shuffled:
        turns.append((taken[row[0].group], len(turns), row))
        taken[row[0].group] += 1
    turns.sort(key=lambda turn: turn[:2])
    return [row for _, _, row in turns[:number]]


def _queries_and_answers(
    chosen: Iterable[list[Pair]],
) -> tuple[list[Query], dict[str, dict[str, int]], dict[str, Document]]:
    queries: list[Query] = []
    qrels: dict[str, dict[str, int]] = {}
    documents: dict[str, Document] = {}
    for number, rows in enumerate(sorted(chosen, key=lambda rows: rows[0].origin)):
        query = Query(id=f"q{number:05d}", text=rows[0].query, group=rows[0].group)
        queries.append(query)
        for pair in rows:
            document = documents.setdefault(pair.positive, _document(pair, len(documents)))
            qrels.setdefault(query.id, {})[document.id] = 1
    return queries, qrels, documents


def _unlike(
    answers: Iterable[Document], distractors: Sequence[Document], num_documents: int
) -> list[Document]:
    """The first ``distractors`` that fill the pool and are no near-duplicate of an answer.

    A near-duplicate of an answer would be a right answer that counts as a wrong one.
    """
    answers = list(answers)
    wanted = max(0, num_documents - len(answers))
    candidates = list({document.text: document for document in distractors}.values())
    candidates = candidates[: wanted + len(answers)]
    labels = near_duplicate_groups(
        [document.text for document in (*answers, *candidates)], threshold=POOL_THRESHOLD
    )
    answered = set(labels[: len(answers)].tolist())
    unlike = [
        document
        for document, label in zip(candidates, labels[len(answers) :].tolist(), strict=True)
        if label not in answered
    ]
    return unlike[:wanted]


def _document(pair: Pair, number: int) -> Document:
    return Document(
        id=f"d{number:05d}",
        text=pair.positive,
        group=pair.group,
        kind=pair.kind,
        origin=pair.origin,
    )


def _lowest_overlap(
    queries: Sequence[Query],
    qrels: Mapping[str, Mapping[str, int]],
    pool: Sequence[Document],
) -> tuple[str, ...]:
    """The third of the queries whose words are least found in what answers them.

    Overlap is the share of the query's terms that stand in a relevant document, each weighted
    by its inverse document frequency in the pool: what BM25 has to go by.
    """
    terms = {document.id: frozenset(split_terms(document.text)) for document in pool}
    frequency = Counter(term for found in terms.values() for term in found)

    def weight(term: str) -> float:
        return math.log(1 + (len(pool) - frequency[term] + 0.5) / (frequency[term] + 0.5))

    def overlap(query: Query) -> float:
        asked = frozenset(split_terms(query.text))
        whole = sum(map(weight, asked)) or 1.0
        return max(sum(map(weight, asked & terms[doc])) / whole for doc in qrels[query.id])

    ranked = sorted(queries, key=lambda query: (overlap(query), query.id))
    return tuple(sorted(query.id for query in ranked[: math.ceil(len(ranked) * LOW_OVERLAP_SHARE)]))


def split_terms(text: str) -> list[str]:
    """Lower-case words; camelCase and snake_case names fall into their words."""
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3 \2\4", text)
    return re.findall(r"[^\W_]+", spaced.lower())
