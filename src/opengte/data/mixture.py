"""Sources -> the batch of any step, as a pure function of (seed, step, manifest).

Nothing is replayed and nothing is remembered: which group feeds a step, which stream each slot,
which row each position, whether its sides change places, all of it is arithmetic on keys
(``docs/explanation/mixture.md``). So every rank computes the same batch, a resumed run goes on
with the batch it would have had, and the ten-millionth batch costs what the first one costs.

The epoch rule: a stream of n rows has positions 0, 1, 2, ...; position k is row k mod n of the
shuffle of epoch k div n. Batches take positions in turn and none twice. A row that brings a text
which its batch already holds is left out and counted. Hence in every epoch each row stands in at
most one batch, and in exactly one unless it was counted. Axes: B rows of a batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from opengte.data.mixture_config import LengthBucket, MixtureConfig, mixing_shares
from opengte.data.pair_rows import PairRows
from opengte.data.permutation import key_of
from opengte.data.shingles import mix
from opengte.data.sources import PromptsConfig, Source
from opengte.data.streams import Group, Plan, make_plan
from opengte.errors import DataError
from opengte.records import Batch

__all__ = [
    "BatchPlan",
    "LengthBucket",
    "Mixture",
    "MixtureConfig",
    "PairRows",
    "PromptsConfig",
    "Source",
    "mixing_shares",
]

_ORDER_VERSION = 1  # raised whenever the same settings would give other batches


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """What a batch is made from, known before any text is read.

    Attributes:
        step: of the batch.
        group: what it is drawn from: a source, a task, or what joins its sources.
        sources: position of each candidate row's source, (W,).
        rows: number of the row in its source, (W,).
        epochs: how often the row's stream had been gone through before, (W,).
        positions: the row's position in its stream, (W,).
        flipped: whether query and positive change places, (W,).
        kept: whether the row is in the batch; the others collide with a row before them, (W,).
            Rows of scored sources never do, for losses on scores compare pairs, not texts.
        query_hashes, positive_hashes: of the texts, sides changed where they are, (W,).
    """

    step: int
    group: Group
    sources: NDArray[np.int64]
    rows: NDArray[np.int64]
    epochs: NDArray[np.int64]
    positions: NDArray[np.int64]
    flipped: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    query_hashes: NDArray[np.uint64]
    positive_hashes: NDArray[np.uint64]


class Mixture:
    """A ``BatchSource`` over sources in memory or in a store.

    Args:
        sources: with different names; the order does not matter.
        config: how they are mixed.
    """

    def __init__(self, sources: Sequence[Source], config: MixtureConfig) -> None:
        self.config = config
        self.sources = tuple(sorted(sources, key=lambda source: source.name))
        self._plan: Plan = make_plan(self.sources, config)
        self._prompts = [_prompts_of(source, config.prompts) for source in self.sources]

    @property
    def shares(self) -> dict[str, float]:
        """p_i by the name of the source: what part of the steps (or rows) it feeds."""
        return {s.name: float(p) for s, p in zip(self.sources, self._plan.shares, strict=True)}

    @property
    def groups(self) -> tuple[Group, ...]:
        """What batches are drawn from, with shares, batch sizes and numbers of rows."""
        return self._plan.groups

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the sources' content, the settings and the order's version."""
        facts = {
            "version": _ORDER_VERSION,
            "config": asdict(self.config),
            "sources": [_facts_of(source) for source in self.sources],
        }
        text = json.dumps(facts, sort_keys=True, default=dict)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def group_of(self, step: int) -> Group:
        """What the batch of ``step`` is drawn from."""
        entry, _ = self._plan.steps.draws(step, step + 1)
        return self._plan.groups[int(entry[0])]

    def plan(self, step: int) -> BatchPlan:
        """Rows of the batch of ``step``, without reading a text.

        Raises:
            DataError: ``step`` is negative.
        """
        if step < 0:
            raise DataError(f"step must be >= 0, got {step}")
        entry, turn = self._plan.steps.draws(step, step + 1)
        group, first = self._plan.groups[int(entry[0])], int(turn[0])
        size = group.batch_size
        slots, occurrences = group.slots.draws(first * size, (first + 1) * size)
        sources, rows, epochs = (np.empty(size, np.int64) for _ in range(3))
        flipped = np.zeros(size, np.bool_)
        queries, positives = (np.empty(size, np.uint64) for _ in range(2))
        for slot in np.unique(slots).tolist():
            here = slots == slot
            stream = self._plan.streams[group.streams[slot]]
            source = self.sources[stream.source]
            sources[here] = stream.source
            rows[here], epochs[here] = stream.rows_at(occurrences[here], self.config.seed)
            queries[here] = source.rows.numbers("query_hash", rows[here])
            positives[here] = source.rows.numbers("positive_hash", rows[here])
            if source.symmetric and self.config.flip_symmetric:
                flipped[here] = _coins(self.config.seed, source.name, rows[here], epochs[here])
        swapped = np.where(flipped, positives, queries), np.where(flipped, queries, positives)
        kept = self._keep(*swapped) if not source.scored else np.ones(size, np.bool_)
        return BatchPlan(step, group, sources, rows, epochs, occurrences, flipped, kept, *swapped)

    def _keep(
        self, queries: NDArray[np.uint64], positives: NDArray[np.uint64]
    ) -> NDArray[np.bool_]:
        if self.config.repeats == "skip":
            return keep_unlike(queries, positives)
        return keep_unlike_across(queries, positives)

    def batch(self, step: int) -> Batch:
        """The whole global batch of ``step``; ranks take ``Batch.slice``."""
        plan = self.plan(step)
        kept = np.flatnonzero(plan.kept)
        present = np.unique(plan.sources[kept]).tolist()
        rows = _Assembly(len(kept))
        for number in present:
            places = np.flatnonzero(plan.sources[kept] == number)
            self._fill(rows, plan, number, kept[places], places)
        names = [source.name for source in self.sources]
        first = self.sources[present[0]]
        label = self.config.repeats == "label"
        return Batch(
            step=step,
            source=first.name if len(present) == 1 else "",
            queries=rows.queries,
            positives=rows.positives,
            negatives=rows.negatives,
            row_ids=plan.rows[kept],
            row_sources=[names[i] for i in plan.sources[kept].tolist()],
            scores=rows.scores.astype(np.float32) if first.scored else None,
            query_labels=_labels(plan.query_hashes[kept]) if label else None,
            positive_labels=_labels(plan.positive_hashes[kept]) if label else None,
            query_prompt_characters=_one_or_all(rows.query_prompts),
            document_prompt_characters=_one_or_all(rows.document_prompts),
            in_batch_negatives=first.in_batch_negatives,
            num_skipped=len(plan.kept) - len(kept),
            epoch=float(plan.positions[0]) / self._rows_of_first(plan),
        )

    def _rows_of_first(self, plan: BatchPlan) -> int:
        streams = (self._plan.streams[i] for i in plan.group.streams)
        return next(s.num_rows for s in streams if s.source == plan.sources[0])

    def _fill(
        self,
        out: _Assembly,
        plan: BatchPlan,
        number: int,
        chosen: NDArray[np.int64],
        places: NDArray[np.int64],
    ) -> None:
        """Read the ``chosen`` rows of one source and put them in their places."""
        source = self.sources[number]
        taken = source.rows.take(plan.rows[chosen])
        queries, positives = taken.queries, taken.positives
        # A negative stays one: what does not mean the same as one side does not as the other.
        for i in np.flatnonzero(plan.flipped[chosen]).tolist():
            queries[i], positives[i] = positives[i], queries[i]
        negatives: list[tuple[str, ...]] = [()] * len(chosen)
        if self.config.max_negatives != 0:
            if taken.negatives is not None:
                negatives = [tuple(of_row) for of_row in taken.negatives]
            for refreshed in source.refreshed:
                if refreshed.valid_from <= plan.step:
                    refreshed.replace(plan.rows[chosen], negatives)
        if self.config.max_negatives:
            keys = plan.rows[chosen], plan.epochs[chosen]
            _choose(negatives, *keys, self.config.max_negatives, self.config.seed, source.name)
        query_prompt, document_prompt = self._prompts[number]
        out.put(places, queries, positives, negatives, query_prompt, document_prompt)
        if taken.scores is not None:
            out.scores[places] = taken.scores


class _Assembly:
    """The columns of a batch while its sources fill them, each in its places."""

    def __init__(self, size: int) -> None:
        self.queries: list[str] = [""] * size
        self.positives: list[str] = [""] * size
        self.negatives: list[tuple[str, ...]] = [()] * size
        self.query_prompts: list[int] = [0] * size
        self.document_prompts: list[int] = [0] * size
        self.scores = np.full(size, np.nan)

    def put(
        self,
        places: NDArray[np.int64],
        queries: list[str],
        positives: list[str],
        negatives: list[tuple[str, ...]],
        query_prompt: str,
        document_prompt: str,
    ) -> None:
        if query_prompt:
            queries = [query_prompt + text for text in queries]
        if document_prompt:
            positives = [document_prompt + text for text in positives]
            negatives = [tuple(document_prompt + text for text in row) for row in negatives]
        query_prompts = [len(query_prompt)] * len(places)
        document_prompts = [len(document_prompt)] * len(places)
        if len(places) == len(self.queries):  # one source: nothing to scatter
            self.queries, self.positives, self.negatives = queries, positives, negatives
            self.query_prompts, self.document_prompts = query_prompts, document_prompts
            return
        for i, place in enumerate(places.tolist()):
            self.queries[place] = queries[i]
            self.positives[place] = positives[i]
            self.negatives[place] = negatives[i]
            self.query_prompts[place] = query_prompts[i]
            self.document_prompts[place] = document_prompts[i]


def keep_unlike(
    query_hashes: NDArray[np.uint64], positive_hashes: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Which rows to keep so that no text stands twice, on either side; earlier rows win."""
    kept = np.ones(len(query_hashes), np.bool_)
    doubtful = _repeated(np.stack([query_hashes, positive_hashes], 1))
    seen: set[int] = set()
    for row in np.flatnonzero(doubtful.any(1)).tolist():
        query, positive = int(query_hashes[row]), int(positive_hashes[row])
        kept[row] = query != positive and query not in seen and positive not in seen
        if kept[row]:
            seen.update((query, positive))
    return kept


def keep_unlike_across(
    query_hashes: NDArray[np.uint64], positive_hashes: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Which rows to keep so that no text is a query and a positive, and no pair stands twice.

    Texts that repeat on one side stay: labels say that they are the same.
    """
    kept = np.ones(len(query_hashes), np.bool_)
    doubtful = _repeated(np.stack([query_hashes, positive_hashes], 1))
    queries: set[int] = set()
    positives: set[int] = set()
    pairs: set[tuple[int, int]] = set()
    for row in np.flatnonzero(doubtful.any(1)).tolist():
        pair = int(query_hashes[row]), int(positive_hashes[row])
        kept[row] = not (
            pair[0] == pair[1] or pair in pairs or pair[0] in positives or pair[1] in queries
        )
        if kept[row]:
            queries.add(pair[0])
            positives.add(pair[1])
            pairs.add(pair)
    return kept


def _repeated(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """True where a value occurs anywhere else."""
    flat = values.reshape(-1)
    order = np.argsort(flat, kind="stable")
    same = flat[order][1:] == flat[order][:-1]
    repeated = np.zeros(len(flat), np.bool_)
    repeated[order[1:][same]] = True
    repeated[order[:-1][same]] = True
    return repeated.reshape(values.shape)


def _labels(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _coins(
    seed: int, name: str, rows: NDArray[np.int64], epochs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """A fair coin for each row, turned over from one epoch to the next."""
    key = np.array([key_of("flip", seed, name)], np.uint64)
    return ((mix(key ^ mix(rows.astype(np.uint64))) + epochs.astype(np.uint64)) & np.uint64(1)) == 1


def _choose(
    negatives: list[tuple[str, ...]],
    rows: NDArray[np.int64],
    epochs: NDArray[np.int64],
    number: int,
    seed: int,
    name: str,
) -> None:
    """Keep ``number`` negatives of each row, the next ones in the next epoch; in place."""
    key = np.array([key_of("negatives", seed, name)], np.uint64)
    start = (mix(key ^ mix(rows.astype(np.uint64))) >> np.uint64(33)).astype(np.int64)
    start += epochs * number
    for i, begin in enumerate(start.tolist()):
        given = negatives[i]
        if len(given) > number:
            negatives[i] = tuple(given[(begin + k) % len(given)] for k in range(number))


def _one_or_all(numbers: list[int]) -> int | list[int]:
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _prompts_of(source: Source, config: PromptsConfig) -> tuple[str, str]:
    query, document = config.resolve(source.name, source.task)
    return (
        query if source.query_prompt is None else source.query_prompt,
        document if source.document_prompt is None else source.document_prompt,
    )


def _facts_of(source: Source) -> Mapping[str, object]:
    """What the batches of a source depend on."""
    facts = {
        name: getattr(source, name)
        for name in (
            "name",
            "task",
            "symmetric",
            "in_batch_negatives",
            "scored",
            "min_score",
            "weight",
            "query_prompt",
            "document_prompt",
        )
    }
    facts["content"] = source.fingerprint or source.rows.fingerprint()
    # Negatives that come later are a part of the run's course, as its weights are: a run that
    # goes on is the same run. Those that hold from the start are a part of the data.
    facts["negatives"] = [each.sha256 for each in source.refreshed if each.valid_from == 0]
    return facts
