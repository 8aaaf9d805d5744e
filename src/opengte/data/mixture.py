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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from opengte.data.assembly import Assembly, choose_negatives
from opengte.data.collisions import keep_unlike, keep_unlike_across
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
        self._is_scored = np.array([source.scored for source in self.sources])

    @property
    def shares(self) -> dict[str, float]:
        """p_i by the name of the source: what part of the steps (or rows) it feeds."""
        return {s.name: float(p) for s, p in zip(self.sources, self._plan.shares, strict=True)}

    @property
    def groups(self) -> tuple[Group, ...]:
        """What batches are drawn from, with shares, batch sizes and numbers of rows."""
        return self._plan.groups

    @property
    def num_usable(self) -> dict[str, int]:
        """By the name of the source: rows that batches may hold."""
        usable = dict.fromkeys((source.name for source in self.sources), 0)
        for stream in self._plan.streams:
            usable[self.sources[stream.source].name] += stream.num_rows
        return usable

    @property
    def num_rows(self) -> int:
        """Rows of all sources that batches may hold."""
        return sum(self.num_usable.values())

    @property
    def rows_per_step(self) -> dict[str, float]:
        """By the name of the source: rows drawn a step, on average, skipped ones included."""
        rows = dict.fromkeys((source.name for source in self.sources), 0.0)
        for group in self._plan.groups:
            for place, stream in enumerate(group.streams):
                name = self.sources[self._plan.streams[stream].source].name
                share = float(group.slots.shares[place])
                rows[name] += group.share * group.batch_size * share
        return rows

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
        slots, occurrences = group.draws(first * size, (first + 1) * size)
        sources, rows, epochs = (np.empty(size, np.int64) for _ in range(3))
        flipped = np.zeros(size, np.bool_)
        queries, positives = (np.empty(size, np.uint64) for _ in range(2))
        for slot, here in _places_by_value(slots, len(group.streams)):
            stream = self._plan.streams[group.streams[slot]]
            source = self.sources[stream.source]
            found, in_epochs = stream.rows_at(occurrences[here], self.config.seed)
            sources[here], rows[here], epochs[here] = stream.source, found, in_epochs
            queries[here], positives[here] = source.rows.text_hashes(found)
            if source.symmetric and self.config.flip_symmetric:
                flipped[here] = _coins(self.config.seed, source.name, found, in_epochs)
        swapped = np.where(flipped, positives, queries), np.where(flipped, queries, positives)
        kept = self._is_scored[sources]
        if not kept.all():
            kept = kept | self._keep(*swapped)
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
        drawn = plan.sources[kept]
        rows = Assembly()
        for number, places in _places_by_value(drawn, len(self.sources)):
            self._fill(rows, plan, number, kept[places], places)
        rows.put_in_order()
        names = [source.name for source in self.sources]
        first = self.sources[int(drawn[0])]
        label = self.config.repeats == "label"
        return Batch(
            step=step,
            source=first.name if rows.num_sources == 1 else "",
            queries=rows.queries,
            positives=rows.positives,
            negatives=rows.negatives,
            row_ids=plan.rows[kept],
            row_sources=[names[i] for i in drawn.tolist()],
            scores=self._scores(rows.scores, drawn),
            query_labels=_labels(plan.query_hashes[kept]) if label else None,
            positive_labels=_labels(plan.positive_hashes[kept]) if label else None,
            query_prompt_characters=_one_or_all(rows.query_prompts),
            document_prompt_characters=_one_or_all(rows.document_prompts),
            in_batch_negatives=all(self.sources[i].in_batch_negatives for i in np.unique(drawn)),
            num_skipped=len(plan.kept) - len(kept),
            epoch=float(plan.positions[0]) / self._rows_of_first(plan),
        )

    def _scores(
        self, scores: NDArray[np.float64], drawn: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        """Scores of graded rows, NaN elsewhere; None where no row is graded."""
        graded = self._is_scored[drawn]
        return np.where(graded, scores, np.nan).astype(np.float32) if graded.any() else None

    def _rows_of_first(self, plan: BatchPlan) -> int:
        streams = (self._plan.streams[i] for i in plan.group.streams)
        return next(s.num_rows for s in streams if s.source == plan.sources[0])

    def _fill(
        self,
        out: Assembly,
        plan: BatchPlan,
        number: int,
        chosen: NDArray[np.int64],
        places: NDArray[np.int64],
    ) -> None:
        """Read the ``chosen`` rows of one source; ``places`` says where in the batch they go."""
        source = self.sources[number]
        taken = source.rows.take(plan.rows[chosen])
        queries, positives = taken.queries, taken.positives
        # A negative stays one: what does not mean the same as one side does not as the other.
        for i in np.flatnonzero(plan.flipped[chosen]).tolist():
            queries[i], positives[i] = positives[i], queries[i]
        negatives: list[tuple[str, ...]] = [()] * len(chosen)
        if self.config.max_negatives != 0 and (taken.negatives is not None or source.refreshed):
            if taken.negatives is not None:
                negatives = [tuple(of_row) for of_row in taken.negatives]
            for refreshed in source.refreshed:
                if refreshed.valid_from <= plan.step:
                    refreshed.replace(plan.rows[chosen], negatives)
        if self.config.max_negatives:
            keys = plan.rows[chosen], plan.epochs[chosen]
            seed = key_of("negatives", self.config.seed, source.name)
            choose_negatives(negatives, *keys, self.config.max_negatives, seed)
        out.add(places, queries, positives, negatives, taken.scores, self._prompts[number])


def _labels(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _coins(
    seed: int, name: str, rows: NDArray[np.int64], epochs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """A fair coin for each row, turned over from one epoch to the next."""
    key = np.array([key_of("flip", seed, name)], np.uint64)
    return ((mix(key ^ mix(rows.astype(np.uint64))) + epochs.astype(np.uint64)) & np.uint64(1)) == 1


def _one_or_all(numbers: NDArray[np.int64]) -> int | list[int]:
    return int(numbers[0]) if (numbers == numbers[0]).all() else numbers.tolist()


def _places_by_value(
    values: NDArray[np.int64], num_values: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each value that occurs in [0, num_values), and its places, ascending."""
    if num_values == 1:
        yield 0, np.arange(len(values))
        return
    order = np.argsort(values.astype(np.int16 if num_values < 1 << 15 else np.int64), kind="stable")
    ends = np.cumsum(np.bincount(values, minlength=num_values))
    for value, (start, end) in enumerate(zip([0, *ends.tolist()], ends.tolist(), strict=False)):
        if start < end:
            yield value, order[start:end]


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
