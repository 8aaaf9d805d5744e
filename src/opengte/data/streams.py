"""Sources and settings -> groups: what can make up a batch together, with every share.

A *stream* is a source, or the rows of one length of it. A *group* joins the streams whose rows
may share a batch: one source, the merged small ones, a task, or all. Which group feeds a step
is one schedule over groups; which stream feeds a slot of its batches is another one within.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opengte.data.mixture_config import LengthBucket, MixtureConfig, mixing_shares
from opengte.data.permutation import KeyedPermutation, key_of
from opengte.data.schedule import OrderedSchedule, Schedule, SharedSchedule
from opengte.data.sources import Source
from opengte.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Stream:
    """Some rows of one source, shuffled anew every epoch.

    Attributes:
        source: position among the sources.
        name: unique among streams; keys the shuffle.
        subset: numbers of its rows; None = all rows of the source.
        num_rows: how many.
    """

    source: int
    name: str
    subset: NDArray[np.integer] | None
    num_rows: int

    def rows_at(
        self, positions: NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the source at positions of the endless stream, and the epochs these lie in."""
        epochs, within = np.divmod(positions, self.num_rows)
        order = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            key = key_of("rows", seed, self.name, epoch)
            order[here] = KeyedPermutation(self.num_rows, key)(within[here])
        rows = order if self.subset is None else np.asarray(self.subset[order], np.int64)
        return rows, epochs


@dataclass(frozen=True, eq=False)
class Group:
    """Streams whose rows may stand in one batch.

    Attributes:
        name: of the source, of the task, or what joins them.
        streams: positions among all streams.
        slots: which stream fills which slot of the group's batches.
        batch_size: rows that a batch is made of, before colliding ones are skipped.
        num_rows: rows of all its streams.
        share: part of the steps that it feeds.
    """

    name: str
    streams: tuple[int, ...]
    slots: SharedSchedule
    batch_size: int
    num_rows: int
    share: float

    def draws(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Streams (by place in ``streams``) and their occurrence numbers for some slots."""
        if len(self.streams) == 1:
            return np.zeros(stop - start, np.int64), np.arange(start, stop)
        return self.slots.draws(start, stop)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that decides which rows feed which step."""

    streams: tuple[Stream, ...]
    groups: tuple[Group, ...]
    steps: Schedule
    shares: NDArray[np.float64]


def make_plan(sources: Sequence[Source], config: MixtureConfig) -> Plan:
    """Turn sources and settings into groups.

    Raises:
        DataError: there is no source, or one without a usable row; a name stands twice.
        ConfigError: a setting names a source or task that does not exist.
    """
    _check(sources, config)
    usable = [source.usable_rows() for source in sources]
    sizes = [
        len(source.rows) if rows is None else len(rows)
        for source, rows in zip(sources, usable, strict=True)
    ]
    for source, size in zip(sources, sizes, strict=True):
        if size == 0:
            raise DataError(_why_empty(source))
    teams = _teams(sources, sizes, config)
    shares = _shares(sources, sizes, teams, config)
    streams: list[Stream] = []
    groups: list[Group] = []
    for name, members in teams.items():
        cut = [_streams_of(sources[i], i, usable[i], config.length_table) for i in members]
        _add_groups(name, shares[members], cut, config, streams, groups)
    weights = [group.share for group in groups]
    if config.mode == "ordered":
        steps: Schedule = OrderedSchedule(weights, config.num_steps or 0)
    else:
        steps = SharedSchedule(weights, key_of("steps", config.seed))
    return Plan(tuple(streams), tuple(groups), steps, shares)


def _check(sources: Sequence[Source], config: MixtureConfig) -> None:
    names = [source.name for source in sources]
    if not names:
        raise DataError("a mixture needs at least one source")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"sources must have different names; {twice[0]!r} stands twice")
    if config.weights and set(config.weights) != set(names):
        missing = sorted(set(names) - set(config.weights))
        unknown = sorted(set(config.weights) - set(names))
        raise ConfigError(
            f"weights must name every source; missing: {missing[:5]}, unknown: {unknown[:5]}"
        )
    tasks = {source.task for source in sources}
    if config.mode == "ordered" and (set(config.order) != tasks or len(config.order) > len(tasks)):
        raise ConfigError(f"order must name each task once, {sorted(tasks)}; got {config.order}")
    config.prompts.check(sources)


def _why_empty(source: Source) -> str:
    if not len(source.rows):
        return f"source {source.name!r} is empty"
    wanted = (
        "with a score"
        if source.scored
        else f"that match (score > {source.min_score:g}, sides that differ)"
    )
    return (
        f"source {source.name!r} has no rows {wanted} among {len(source.rows)}; "
        "leave it out or use its scores"
    )


def _teams(
    sources: Sequence[Source], sizes: Sequence[int], config: MixtureConfig
) -> dict[str, list[int]]:
    """Name to the sources that may share a batch, in the order of the steps if there is one."""
    name_of: dict[str, Callable[[int], str]] = {
        "one_source": lambda i: _own_or_merged(sources[i], sizes[i], config),
        "one_task": lambda i: sources[i].task,
        "ordered": lambda i: sources[i].task,
        "mixed": lambda i: "mixed",
        "balanced": lambda i: "balanced",
    }
    teams: dict[str, list[int]] = {}
    order = list(range(len(sources)))
    if config.mode == "ordered":
        order.sort(key=lambda i: config.order.index(sources[i].task))
    for i in order:
        name = name_of[config.mode](i)
        # A batch either allows in-batch negatives or not, and either has scores or not; a balanced
        # one has rows of every kind, for losses that tell them apart.
        if config.mode != "balanced" and (config.mode != "one_source" or name != sources[i].name):
            name += "" if sources[i].in_batch_negatives else ", no in-batch negatives"
            name += ", scored" if sources[i].scored else ""
        teams.setdefault(name, []).append(i)
    return teams


def _own_or_merged(source: Source, size: int, config: MixtureConfig) -> str:
    return f"small: {source.task}" if size < config.merge_below else source.name


def _shares(
    sources: Sequence[Source],
    sizes: Sequence[int],
    teams: dict[str, list[int]],
    config: MixtureConfig,
) -> NDArray[np.float64]:
    """Share of each source. Merged sources count as one, and divide its share by their rows."""
    if config.weights:
        given = [config.weights[source.name] for source in sources]
        return mixing_shares([1] * len(sources), alpha=0, weights=given, max_share=config.max_share)
    units = (
        list(teams.values()) if config.mode == "one_source" else [[i] for i in range(len(sources))]
    )
    rows = [sum(sizes[i] for i in unit) for unit in units]
    # The weight of merged sources is that of their average row.
    weights = [sum(sizes[i] * sources[i].weight for i in unit) for unit in units]
    of_unit = mixing_shares(
        rows,
        alpha=config.alpha,
        weights=np.divide(weights, rows).tolist(),
        max_rows=config.max_rows,
        max_share=config.max_share,
    )
    shares = np.zeros(len(sources))
    for unit, share, weight in zip(units, of_unit, weights, strict=True):
        for i in unit:
            shares[i] = share * sizes[i] * sources[i].weight / weight if weight else 0.0
    return shares


def _streams_of(
    source: Source,
    number: int,
    usable: NDArray[np.integer] | None,
    table: tuple[LengthBucket, ...],
) -> list[Stream]:
    """One stream, or one for each length bucket (some of them empty)."""
    size = len(source.rows) if usable is None else len(usable)
    if not table:
        return [Stream(number, source.name, usable, size)]
    rows = np.arange(size, dtype=np.uint32 if size < 1 << 32 else np.int64)
    longest = np.maximum(*(source.rows.numbers(f"{side}_tokens") for side in ("query", "positive")))
    if usable is not None:
        rows, longest = usable, longest[usable]
    bucket = np.searchsorted([b.max_tokens for b in table[:-1]], longest, side="left")
    subsets = [rows[bucket == b] for b in range(len(table))]
    return [
        Stream(number, f"{source.name}/{b}", subset, len(subset))
        for b, subset in enumerate(subsets)
    ]


def _add_groups(
    name: str,
    shares: NDArray[np.float64],
    members: list[list[Stream]],
    config: MixtureConfig,
    streams: list[Stream],
    groups: list[Group],
) -> None:
    """Add one group, or one for each length bucket that can fill a batch.

    Args:
        name: of the team whose sources may share a batch.
        shares: p_i of its sources, (M,).
        members: the streams of each source, one a bucket.
        config: batch sizes and seed.
        streams: grow by what is added.
        groups: likewise.
    """
    sizes = [bucket.batch_size for bucket in config.length_table] or [config.batch_size]
    _merge_upwards(members, sizes)
    rows = np.array([[stream.num_rows for stream in of_source] for of_source in members])
    mass = shares[:, None] * rows / rows.sum(1, keepdims=True)
    # A bucket feeds as many steps as its rows need batches, so that epochs end together.
    num_steps = mass.sum(0) / sizes
    for bucket in np.flatnonzero(num_steps).tolist():
        label = f"{name}/{bucket}" if config.length_table else name
        filled = np.flatnonzero(rows[:, bucket]).tolist()
        first = len(streams)
        streams += [members[m][bucket] for m in filled]
        num_rows = int(rows[:, bucket].sum())
        groups.append(
            Group(
                name=label,
                streams=tuple(range(first, len(streams))),
                slots=SharedSchedule(mass[filled, bucket], key_of("slots", config.seed, label)),
                batch_size=min(sizes[bucket], num_rows),
                num_rows=num_rows,
                share=float(shares.sum() * num_steps[bucket] / num_steps.sum()),
            )
        )


def _merge_upwards(members: list[list[Stream]], sizes: list[int]) -> None:
    """Move the rows of a bucket that fills no batch to the next longer one, in place."""
    for bucket in range(len(sizes) - 1):
        if sum(of_source[bucket].num_rows for of_source in members) >= sizes[bucket]:
            continue
        for of_source in members:
            short, long = of_source[bucket], of_source[bucket + 1]
            assert short.subset is not None  # buckets are always subsets
            assert long.subset is not None
            rows = np.sort(np.concatenate([short.subset, long.subset]))
            of_source[bucket] = replace(short, subset=short.subset[:0], num_rows=0)
            of_source[bucket + 1] = replace(long, subset=rows, num_rows=len(rows))
