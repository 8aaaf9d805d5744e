"""Conan's dynamic hard negatives: what has become easy is replaced from the ranked list.

Every k steps the live encoder scores pairs it has just learned from. Where the mean score of a
pair's negatives has fallen far below what it was when first seen, the next window of the
pair's ranked candidates takes their place. Source: Conan-embedding, arXiv:2408.15710, section
3.2.1. Axes: N mined pairs, P pairs checked, n negatives of a pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.contracts import StepContext, TextEncoder
from opengte.errors import ConfigError
from opengte.mining.blocks import NO_ROW
from opengte.mining.mine import MiningResult
from opengte.mining.side_files import (
    NegativeTable,
    PairNumbers,
    clean_folder,
    read_side_file,
    side_files,
    write_side_file,
)


@dataclass(frozen=True, kw_only=True)
class DynamicConfig:
    """When negatives count as too easy, and what replaces them.

    Attributes:
        every_steps: steps between two checks (Conan 100).
        factor: a pair's negatives are too easy when factor x score < first score (Conan 1.15).
        max_score: ... and |score| is below this (Conan 0.8).
        offset: the i-th replacement takes candidates (i-1) n + offset up to i n + offset of the
            ranked list, counted from 0 (Conan 10).
        max_pairs: pairs scored in a check, the last ones learned from: with about one batch a
            check costs about one step.
        lead_steps: batches fetched ahead of the one being learned from, at least 1.
    """

    every_steps: int = 100
    factor: float = 1.15
    max_score: float = 0.8
    offset: int = 10
    max_pairs: int = 1024
    lead_steps: int = 2

    def __post_init__(self) -> None:
        for name in ("every_steps", "max_pairs", "lead_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.factor < 1:
            raise ConfigError(f"factor must be >= 1, got {self.factor}")
        if self.offset < 0:
            raise ConfigError(f"offset must be >= 0, got {self.offset}")


class DynamicNegatives:
    """A ``TrainingCallback`` that replaces negatives which have become easy.

    What it knows of a pair (first score, number of replacements) lives in the numbered files,
    so that a run which was killed and went on knows the same.

    Args:
        mined: with ``keep_ranked``: the candidates come from its ranked lists.
        config: when and what.
        folder: the files; ``RefreshedBatches`` reads them.
    """

    def __init__(
        self, mined: MiningResult, config: DynamicConfig | None = None, *, folder: str | Path
    ) -> None:
        if mined.ranked_rows.shape[1] == 0:
            raise ConfigError(
                "dynamic negatives need the ranked candidates of the mining run; "
                "mine with keep_ranked"
            )
        self.config = DynamicConfig() if config is None else config
        self._mined = mined
        self._folder = Path(folder)
        self._table = NegativeTable(mined, self._folder)
        self._numbers = PairNumbers(mined)
        self._recent: dict[int, None] = {}
        self._first_scores = np.full(len(mined.pairs), np.nan, dtype=np.float32)
        self._replacements = np.zeros(len(mined.pairs), dtype=np.int64)
        self._step = 0
        self._cleaned = False

    def state_dict(self) -> dict[str, Any]:
        """Finished steps and the pairs learned from since the last check."""
        return {"step": self._step, "recent": list(self._recent)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: everything else is read from the files made until then."""
        self._step = int(state["step"])
        self._recent = dict.fromkeys(state["recent"])
        self._first_scores[:] = np.nan
        self._replacements[:] = 0
        for file in side_files(self._folder):
            if file.made <= self._step:
                self._learn(read_side_file(file, self._mined.fingerprint))

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        """Remember the pairs of the batch; check them every ``every_steps``."""
        if not self._cleaned:
            clean_folder(self._folder, context, self._step)
            self._cleaned = True
        self._step = context.step
        self._remember(self._numbers.of(context.batch))
        if context.step % self.config.every_steps:
            return None
        pairs = np.array(sorted(self._recent), dtype=np.int64)
        self._recent = {}
        return self._check(pairs, context)

    def _remember(self, numbers: Sequence[int | None]) -> None:
        for number in numbers:
            if number is not None:
                self._recent.pop(number, None)
                self._recent[number] = None
        while len(self._recent) > self.config.max_pairs:
            del self._recent[next(iter(self._recent))]

    def _check(self, pairs: NDArray[np.int64], context: StepContext) -> Mapping[str, float]:
        self._table.advance_to_made(context.step)
        pairs = pairs[(self._table.rows[pairs] != NO_ROW).any(axis=1)]
        scores = self._scores_of_all_ranks(pairs, context)
        first = self._first_scores[pairs]
        # A first score that is missing (NaN) makes this comparison False.
        easy = (self.config.factor * scores < first) & (np.abs(scores) < self.config.max_score)
        windows = [self._next_rows(pair) for pair in pairs[easy].tolist()]
        rows = np.array(windows, dtype=np.int64).reshape(-1, self._table.rows.shape[1])
        found = (rows != NO_ROW).all(axis=1)
        replaced = pairs[easy][found]
        arrays: dict[str, NDArray[np.generic]] = {
            "pairs": replaced,
            "rows": rows[found],
            "seen": pairs[np.isnan(first)],
            "scores": scores[np.isnan(first)],
        }
        if context.rank == 0:
            write_side_file(
                self._folder,
                made=context.step,
                valid_from=context.step + self.config.lead_steps,
                fingerprint=self._mined.fingerprint,
                **arrays,
            )
        context.barrier()
        self._learn(arrays)
        return {
            "negatives_checked": float(len(pairs)),
            "negatives_replaced": float(len(replaced)),
            "negatives_exhausted": float(easy.sum() - len(replaced)),
            "negatives_score": float(scores.mean()) if len(scores) else 0.0,
        }

    def _next_rows(self, pair: int) -> NDArray[np.int64]:
        """The next window of the pair's ranked candidates; -1 throughout where it is not full."""
        size = self._table.rows.shape[1]
        start = int(self._replacements[pair]) * size + self.config.offset
        window = self._mined.ranked_rows[pair, start : start + size].astype(np.int64)
        full = len(window) == size and bool((window != NO_ROW).all())
        return window if full else np.full(size, NO_ROW, dtype=np.int64)

    def _learn(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._first_scores[arrays["seen"]] = arrays["scores"]
        # New negatives have not been seen: their first score is that of the next check.
        self._first_scores[arrays["pairs"]] = np.nan
        self._replacements[arrays["pairs"]] += 1

    def _scores_of_all_ranks(
        self, pairs: NDArray[np.int64], context: StepContext
    ) -> NDArray[np.float32]:
        """Mean cosine of each pair's mined negatives; every rank scores its share."""
        own = self._mean_scores(pairs[context.rank :: context.world_size], context.encoder)
        if context.world_size == 1:
            return own
        parts = [
            self._folder / f"scores-{context.step:08d}-{rank}.npy"
            for rank in range(context.world_size)
        ]
        with atomic_file(parts[context.rank]) as stream:
            np.save(stream, own, allow_pickle=False)
        context.barrier()
        scores = np.empty(len(pairs), dtype=np.float32)
        for rank, part in enumerate(parts):
            scores[rank :: context.world_size] = np.load(part, allow_pickle=False)
        context.barrier()
        parts[context.rank].unlink()
        return scores

    def _mean_scores(self, pairs: NDArray[np.int64], encoder: TextEncoder) -> NDArray[np.float32]:
        if len(pairs) == 0:
            return np.empty(0, dtype=np.float32)
        texts = self._mined.pairs.texts
        rows = self._table.rows[pairs]
        there = rows != NO_ROW
        distinct, places = np.unique(rows[there], return_inverse=True)
        queries = [self._mined.pairs.given[pair].query for pair in pairs.tolist()]
        query_vectors = _unit(encoder.encode(queries, kind="query"))
        vectors = _unit(encoder.encode([texts[row] for row in distinct.tolist()], kind="document"))
        owners = np.nonzero(there)[0]
        scores = np.einsum("nd,nd->n", query_vectors[owners], vectors[places])
        return (np.bincount(owners, scores) / there.sum(axis=1)).astype(np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return unit
