"""Documents longer than a model reads: by their best piece, by length, and by needles in hay.

Three questions are kept apart. Does a model lose by cutting? ``chunk_tokens`` of retrieval ranks a
document by its best piece instead (Dai & Callan 2019, MaxP). Where does it lose?
``score_by_length`` slices a result by the length of the answer. Does it read to the end at all?
``passkey_task`` hides a number in filler text (LongEmbed, Zhu et al. 2024, arXiv:2404.12096, 3.1).
Axes: Q queries, P pieces, N documents, D dimensions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import TextEncoder
from opengte.errors import ConfigError
from opengte.evaluation.tasks import RetrievalTask
from opengte.records import Document, Query
from opengte.text.chunking import chunk_text

if TYPE_CHECKING:
    from opengte.text.tokenizer import Tokenizer

_QUERIES = 64
_FILLER = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
)
_NAMES = ("Avery", "Blake", "Casey", "Devon", "Emery", "Finley", "Harper", "Jordan", "Kendall")
_SURNAMES = ("Adler", "Berg", "Conti", "Duval", "Endo", "Fischer", "Greco", "Haas", "Ito", "Jansen")


def tokenizer_of(encoder: TextEncoder) -> Tokenizer:
    """The tokenizer that an encoder carries.

    Raises:
        ConfigError: it carries none (an endpoint does not).
    """
    tokenizer: Tokenizer | None = getattr(encoder, "tokenizer", None)
    if tokenizer is None:
        raise ConfigError(
            "chunk_tokens needs a model whose tokenizer is known; "
            f"{type(encoder).__name__} has none"
        )
    return tokenizer


def chunk_documents(
    texts: Sequence[str], tokenizer: Tokenizer, *, max_tokens: int, overlap_tokens: int = 0
) -> tuple[list[str], NDArray[np.int64]]:
    """Pieces of all texts in order, and where each text's pieces start, (N + 1,)."""
    chunks: list[str] = []
    starts = [0]
    for text in texts:
        pieces = chunk_text(text, tokenizer, max_tokens=max_tokens, overlap_tokens=overlap_tokens)
        # A text without a token still is a document: it keeps its place with itself as a piece.
        chunks += [piece.text for piece in pieces] or [text]
        starts.append(len(chunks))
    return chunks, np.asarray(starts, dtype=np.int64)


def best_chunk_search(
    queries: NDArray[np.float32],
    chunks: NDArray[np.float32],
    starts: NDArray[np.int64],
    k: int,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """For each query scores and rows of the best k documents, each by its best piece.

    Args:
        queries: (Q, D).
        chunks: (P, D), the pieces of the first document first.
        starts: (N + 1,), where each document's pieces start; none is empty.
        k: hits a query; ties go to the lower row.
    """
    k = min(k, len(starts) - 1)
    for start in range(0, len(queries), _QUERIES):
        products = queries[start : start + _QUERIES] @ chunks.T
        for scores in np.maximum.reduceat(products, starts[:-1], axis=1):
            cut = np.partition(scores, len(scores) - k)[len(scores) - k]
            (rows,) = np.nonzero(scores >= cut)
            order = np.lexsort((rows, -scores[rows]))[:k]
            yield scores[rows[order]], rows[order]


def score_by_length(
    task: RetrievalTask, values: Mapping[str, float], *, bounds: Sequence[int] = (256, 1024, 4096)
) -> dict[str, tuple[int, float]]:
    """Number of queries and mean value by the length of the answer, in white-space words.

    Args:
        task: names the relevant documents; the shortest of a query's counts.
        values: a metric by query, e.g. ``result.per_query["ndcg@10"]``.
        bounds: where one slice ends and the next begins.

    Returns:
        By slice, e.g. ``"256-1023"``; slices without queries are left out.
    """
    lengths = {document.id: len(document.full_text.split()) for document in task.corpus}
    edges = [0, *bounds]
    slices: dict[str, list[float]] = {}
    for query, value in values.items():
        relevant = [lengths[name] for name, grade in task.qrels[query].items() if grade > 0]
        if not relevant:
            continue
        place = int(np.searchsorted(edges, min(relevant), side="right")) - 1
        last = place + 1 == len(edges)
        name = f"{edges[place]}+" if last else f"{edges[place]}-{edges[place + 1] - 1}"
        slices.setdefault(name, []).append(value)
    order = sorted(slices, key=lambda name: int(name.rstrip("+").split("-")[0]))
    return {name: (len(slices[name]), float(np.mean(slices[name]))) for name in order}


def passkey_task(
    num_words: int, *, num_documents: int = 100, num_queries: int = 50, seed: int = 0
) -> RetrievalTask:
    """Find whose passkey is asked for, among documents of filler that differ in that line alone.

    Args:
        num_words: length of each document; about 1.3 tokens a word.
        num_documents: LongEmbed has 100.
        num_queries: LongEmbed has 50.
        seed: of names, numbers and places.

    Raises:
        ConfigError: more documents than there are names, or no room for the line.
    """
    rng = random.Random(seed)
    people = [f"{name} {surname}" for name in _NAMES for surname in _SURNAMES]
    people += [f"{name} {a} {b}" for name in _NAMES for a in _SURNAMES for b in _SURNAMES]
    if not 1 <= num_queries <= num_documents <= len(people) or num_words < 20:
        raise ConfigError(
            f"a passkey task needs num_queries <= num_documents <= {len(people)} and at least 20 "
            f"words; got {num_queries}, {num_documents} and {num_words}"
        )
    chosen = rng.sample(people, num_documents)
    corpus = [
        Document(id=f"d{number}", text=_haystack(person, num_words, rng))
        for number, person in enumerate(chosen)
    ]
    asked = rng.sample(range(num_documents), num_queries)
    return RetrievalTask(
        name=f"passkey-{num_words}",
        corpus=corpus,
        queries=[Query(id=f"q{n}", text=f"What is the passkey for {chosen[n]}?") for n in asked],
        qrels={f"q{number}": {f"d{number}": 1} for number in asked},
    )


def _haystack(person: str, num_words: int, rng: random.Random) -> str:
    key = rng.randint(10_000, 99_999)
    line = f"{person}'s pass key is {key}. Remember it. {key} is the pass key for {person}."
    filler = _FILLER.split()
    words = [filler[place % len(filler)] for place in range(num_words - len(line.split()))]
    place = rng.randint(0, len(words))
    return " ".join([*words[:place], line, *words[place:]])
