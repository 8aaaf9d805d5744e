"""A block of pairs and its rankings -> mined rows, kept in one file that is written in one step.

Blocks are cut by position alone, so that a killed run, or another number of processes, makes
the same blocks. Axes: B pairs of the block, n negatives asked for, R rows of the ranked list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.errors import DataError
from opengte.mining.corpus import MiningCorpus
from opengte.mining.rules import MiningRules, View, apply_rules, distinct_texts, draw
from opengte.mining.tally import Tally
from opengte.mining.teachers import Ranker
from opengte.records import Pair
from opengte.text.text_keys import text_key

NO_ROW = -1
_EMPTY = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Block:
    """What was mined for B consecutive pairs.

    Attributes:
        rows: int64, (B, n): rows of the negatives, best first; -1 where there are fewer.
        scores: float32, (B, n): the teacher's scores; 0 where there is no row.
        positive_scores: float32, (B,): the teacher's scores of the positives; NaN for pairs
            that are not mined.
        ranked_rows: int32, (B, R): every survivor of the rules, each text once, best first,
            padded as above; R = 0 unless ranked lists are kept for a later refresh.
        tallies: by rule name, or ``positives``, ``kept``, ``not_drawn``.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    positive_scores: NDArray[np.float32]
    ranked_rows: NDArray[np.int32]
    tallies: Mapping[str, Tally]


class KnownPositives:
    """For every query the keys of all texts that some pair calls its answer."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._keys: dict[int, set[int]] = {}
        for pair in pairs:
            if is_match(pair):
                keys = self._keys.setdefault(text_key(pair.query), set())
                keys.add(text_key(pair.positive))

    def of(self, query: str) -> NDArray[np.int64]:
        """Keys, sorted, so that nothing depends on the order of a set."""
        keys = self._keys.get(text_key(query), ())
        return np.array(sorted(keys), dtype=np.int64)


def is_match(pair: Pair) -> bool:
    """Whether the pair's positive answers its query: ``score=0`` marks one that does not."""
    return pair.score is None or pair.score > 0


def mine_block(
    pairs: Sequence[Pair],
    first: int,
    *,
    corpus: MiningCorpus,
    known: KnownPositives,
    ranker: Ranker,
    rules: MiningRules,
    keep_ranked: bool,
) -> Block:
    """Rank the corpus for ``pairs``, apply the rules and draw.

    Args:
        pairs: B pairs.
        first: number of the first one among all pairs; samples are keyed by it.
        corpus: the rows that are ranked.
        known: what answers what.
        ranker: who ranks.
        rules: what may stay, and how much is taken.
        keep_ranked: keep all survivors of every pair, not only those drawn.
    """
    block = _unfilled(len(pairs), rules.num_negatives, rules.last_rank if keep_ranked else 0)
    parts: dict[str, list[Tally]] = {}
    mined = [number for number, pair in enumerate(pairs) if is_match(pair)]
    views = _views([pairs[number] for number in mined], corpus, known, ranker, rules.last_rank)
    for number, view in zip(mined, views, strict=True):
        survivors, refused = apply_rules(view, rules)
        taken = draw(survivors, rules)
        block.positive_scores[number] = view.positive_score
        block.rows[number, : len(taken.rows)] = taken.rows
        block.scores[number, : len(taken.rows)] = taken.scores
        if keep_ranked:
            ranked = distinct_texts(survivors).rows
            block.ranked_rows[number, : len(ranked)] = ranked
        left = survivors.keep(~np.isin(survivors.rows, taken.rows))
        for name, part in {**refused, "kept": taken, "not_drawn": left}.items():
            parts.setdefault(name, []).append(_tally(first + number, part))
        parts.setdefault("positives", []).append(_tally(first + number, _positive(view)))
    return replace(block, tallies={name: Tally.merge(part) for name, part in parts.items()})


def write_block(path: Path, block: Block) -> None:
    """Write a block in one step."""
    arrays: dict[str, NDArray[np.generic]] = {
        "rows": block.rows,
        "scores": block.scores,
        "positive_scores": block.positive_scores,
        "ranked_rows": block.ranked_rows,
    }
    for name, tally in block.tallies.items():
        arrays[f"count/{name}"] = np.array(tally.count)
        arrays[f"sample/{name}"] = tally.sample
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_block(path: Path) -> Block:
    """Read what ``write_block`` wrote.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            names = [name.split("/", 1)[1] for name in arrays.files if name.startswith("count/")]
            return Block(
                rows=arrays["rows"],
                scores=arrays["scores"],
                positive_scores=arrays["positive_scores"],
                ranked_rows=arrays["ranked_rows"],
                tallies={
                    name: Tally(int(arrays[f"count/{name}"]), arrays[f"sample/{name}"])
                    for name in names
                },
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(
            "a block of mined negatives cannot be read; remove it and run again", path=path
        ) from error


def _unfilled(num_pairs: int, num_negatives: int, num_ranked: int) -> Block:
    return Block(
        rows=np.full((num_pairs, num_negatives), NO_ROW, dtype=np.int64),
        scores=np.zeros((num_pairs, num_negatives), dtype=np.float32),
        positive_scores=np.full(num_pairs, np.nan, dtype=np.float32),
        ranked_rows=np.full((num_pairs, num_ranked), NO_ROW, dtype=np.int32),
        tallies={},
    )


def _views(
    pairs: Sequence[Pair],
    corpus: MiningCorpus,
    known: KnownPositives,
    ranker: Ranker,
    last_rank: int,
) -> list[View]:
    """One view a pair; each distinct query is ranked once."""
    if not pairs:
        return []
    queries = list(dict.fromkeys(pair.query for pair in pairs))
    positives = [known.of(query) for query in queries]
    # So many rows leave the list before ranks are counted; ask for as many more.
    extra = max(
        len(corpus.rows_of(query)) + sum(len(corpus.rows_of_key(key)) for key in keys.tolist())
        for query, keys in zip(queries, positives, strict=True)
    )
    rankings = ranker.rank(queries, min(last_rank + extra, corpus.num_documents))
    own = {query: dict[int, int]() for query in queries}
    for pair in pairs:
        own[pair.query].setdefault(text_key(pair.positive), len(own[pair.query]))
    wanted = [
        np.array([corpus.rows_of_key(key)[0] for key in own[query]], dtype=np.int64)
        for query in queries
    ]
    scores = ranker.score(queries, wanted)
    numbers = {query: number for number, query in enumerate(queries)}
    views = []
    for pair in pairs:
        number = numbers[pair.query]
        ranking = rankings[number]
        views.append(
            View(
                pair=pair,
                corpus=corpus,
                positive_score=float(scores[number][own[pair.query][text_key(pair.positive)]]),
                known_positives=positives[number],
                rows=ranking.rows,
                scores=ranking.scores,
                ranks=np.zeros(len(ranking.rows), dtype=np.int64),
            )
        )
    return views


def _tally(pair: int, view: View) -> Tally:
    return Tally.of(pair, view.rows, view.ranks, view.scores, view.positive_score)


def _positive(view: View) -> View:
    row = view.corpus.rows_of(view.pair.positive)[0]
    return View(
        pair=view.pair,
        corpus=view.corpus,
        positive_score=view.positive_score,
        known_positives=_EMPTY,
        rows=np.array([row], dtype=np.int64),
        scores=np.array([view.positive_score], dtype=np.float32),
        ranks=np.zeros(1, dtype=np.int64),
    )
