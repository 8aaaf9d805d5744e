"""Pairs and a pool of documents -> how a teacher scores and ranks each pair's own positive.

The measure behind every filter that needs an encoder, taken once, block by block, and kept:
another threshold costs nothing. Axes: N pairs, B pairs of a block.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.contracts import Progress, TextEncoder
from opengte.errors import ConfigError, DataError
from opengte.mining.blocks import KnownPositives
from opengte.mining.claims import share_work
from opengte.mining.corpus import MiningCorpus
from opengte.mining.mine import DEFAULT_BLOCK_PAIRS, as_teacher
from opengte.mining.teachers import Ranker, Teacher
from opengte.records import Document, Pair
from opengte.text.text_keys import fingerprint_texts, text_key

BEYOND = 0
"""The rank of a positive that is not among the best ``depth``."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a teacher says of N positives.

    Attributes:
        scores: float32, (N,): score of (query, positive).
        ranks: int64, (N,): 1 + the number of pool documents that score higher and are no
            known answer of the query; ``BEYOND`` (0) where more than ``depth`` do.
        depth: the largest rank that is told.
    """

    scores: NDArray[np.float32]
    ranks: NDArray[np.int64]
    depth: int


def random_pool(pairs: Sequence[Pair], num_documents: int, *, seed: int = 0) -> list[Document]:
    """Positives drawn without replacement: the random documents of E5's consistency filter.

    Args:
        pairs: whose distinct positives are drawn from.
        num_documents: E5 uses 1,000,000; all of them where there are fewer.
        seed: of the draw.
    """
    if num_documents < 1:
        raise ConfigError(f"num_documents must be >= 1, got {num_documents}")
    texts = list({text_key(pair.positive): pair.positive for pair in pairs}.values())
    order = np.random.default_rng(seed).permutation(len(texts))[:num_documents]
    return [Document(id=str(row), text=texts[row]) for row in np.sort(order).tolist()]


def judge_positives(
    pairs: Sequence[Pair],
    pool: Sequence[Document],
    teacher: Teacher | TextEncoder,
    *,
    folder: str | Path,
    depth: int = 10,
    block_pairs: int = DEFAULT_BLOCK_PAIRS,
    progress: Progress | None = None,
) -> Judgement:
    """Score every pair and rank its positive in ``pool``; resumable and shared as mining is.

    Args:
        pairs: N pairs.
        pool: what positives are ranked among; they need not be in it.
        teacher: who scores.
        folder: embedded texts and finished blocks.
        depth: ranks up to it are told, at least 1.
        block_pairs: pairs judged at once.
        progress: told how many texts and pairs are done of all.
    """
    if not pairs:
        raise DataError("there are no pairs to judge")
    if depth < 1:
        raise ConfigError(f"depth must be >= 1, got {depth}")
    folder, teacher = Path(folder), as_teacher(teacher)
    corpus = MiningCorpus(pool, pairs)
    known = KnownPositives(pairs)
    blocks = folder / f"judged-{_fingerprint(pairs, corpus, teacher, depth, block_pairs)}"
    num_blocks = -(-len(pairs) // block_pairs)

    def path_of(number: int) -> Path:
        return blocks / f"block-{number:06d}.npz"

    if not all(path_of(number).exists() for number in range(num_blocks)):
        total = len(corpus) + len(pairs)
        ranker = teacher.open(
            corpus.texts,
            folder=folder / "corpus",
            num_ranked=corpus.num_documents,
            progress=None if progress is None else lambda done, _: progress(done, total),
        )

        def make(number: int) -> None:
            part = pairs[number * block_pairs : (number + 1) * block_pairs]
            scores, ranks = _judge(part, corpus, known, ranker, depth)
            with atomic_file(path_of(number)) as stream:
                np.savez(stream, scores=scores, ranks=ranks)
            if progress is not None:
                progress(len(corpus) + min((number + 1) * block_pairs, len(pairs)), total)

        share_work(num_blocks, path_of=path_of, make=make, claims=blocks / "claims")
    parts = [_read(path_of(number)) for number in range(num_blocks)]
    return Judgement(
        scores=np.concatenate([scores for scores, _ in parts]),
        ranks=np.concatenate([ranks for _, ranks in parts]),
        depth=depth,
    )


def _judge(
    pairs: Sequence[Pair], corpus: MiningCorpus, known: KnownPositives, ranker: Ranker, depth: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    queries = [pair.query for pair in pairs]
    answers = [known.of(query) for query in queries]
    rows = [corpus.rows_of(pair.positive)[0] for pair in pairs]
    own = ranker.score(queries, [np.array([row], dtype=np.int64) for row in rows])
    scores = np.array([score[0] for score in own], dtype=np.float32)
    # Known answers may stand before the positive without pushing it down: look past them.
    extra = max(sum(len(corpus.rows_of_key(key)) for key in keys.tolist()) for keys in answers)
    rankings = ranker.rank(queries, min(depth + extra + 1, corpus.num_documents))
    ranks = np.empty(len(pairs), dtype=np.int64)
    for number, (row, ranking) in enumerate(zip(rows, rankings, strict=True)):
        answer = np.isin(corpus.keys[ranking.rows], answers[number])
        answer |= np.isin(corpus.bare_keys[ranking.rows], answers[number])
        better = (ranking.scores > scores[number]) & ~answer & (ranking.rows != row)
        rank = 1 + int(better.sum())
        ranks[number] = rank if rank <= depth else BEYOND
    return scores, ranks


def _read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return arrays["scores"], arrays["ranks"]


def _fingerprint(
    pairs: Sequence[Pair], corpus: MiningCorpus, teacher: Teacher, depth: int, block_pairs: int
) -> str:
    texts = fingerprint_texts(text for pair in pairs for text in (pair.query, pair.positive))
    facts = [texts, corpus.fingerprint, teacher.fingerprint, depth, block_pairs]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
