"""A store and a mixture -> what training on them would mean, before a step is made.

The mix table, duplicates, one positive under many queries, truncation, tokens a step, epochs,
sample rows, and a verdict on every evaluation set. ``report_page`` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress
from opengte.data.evaluation_sets import EvaluationSet
from opengte.data.filters.duplicates import exact_duplicates, near_duplicates
from opengte.data.leakage import SetVerdict, judge_evaluation_sets
from opengte.data.mixture import Mixture, MixtureConfig
from opengte.data.pair_rows import PairRows
from opengte.data.permutation import KeyedPermutation, key_of
from opengte.data.shingles import mix
from opengte.data.sources import Source
from opengte.errors import ConfigError
from opengte.records import Pair

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Texts to the number of tokens of each, special ones included."""

LENGTHS = (32, 64, 128, 256, 512, 1024)
_SAMPLED_STEPS = 20


@dataclass(frozen=True)
class SourceReport:
    """One row of the mix table.

    Attributes:
        name, task: of the source.
        num_pairs: its rows.
        num_usable: those that batches may hold.
        share: p_i, of the steps (of the rows, in mixed batches).
        steps: planned steps that it feeds; in mixed batches, their equivalent.
        epochs: how often each usable row is drawn.
        query_tokens, positive_tokens: mean of the texts that were measured.
        truncated: share of positives with more tokens, by length.
        duplicates: share of rows that repeat an earlier pair of the source.
        near_duplicates: share of the rows looked at both of whose sides are near those of an
            earlier one; None where none was looked at. Rows are drawn at random, so it is a
            lower bound unless all were.
        shared_positives: share of rows whose positive stands under another query too.
        samples: some rows, drawn at random.
    """

    name: str
    task: str
    num_pairs: int
    num_usable: int
    share: float
    steps: float
    epochs: float
    query_tokens: float
    positive_tokens: float
    truncated: dict[int, float]
    duplicates: float
    near_duplicates: float | None
    shared_positives: float
    samples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RepeatedPositive:
    """A text that answers many queries of one source."""

    source: str
    num_queries: int
    text: str


@dataclass(frozen=True)
class DataReport:
    """Everything that ``gte data report`` shows.

    Attributes:
        mixture: the settings, as given.
        num_steps: planned.
        num_pairs: of all sources.
        tokens_counted: by a ``tokenizer`` or ``estimated``.
        tokens_per_step: mean over the mixture, both sides, each text cut at ``max_tokens``.
        skipped_per_step: share of a batch's rows left out since a text of theirs stood in it
            already; over some planned steps.
        duplicates_across: rows that repeat a pair of a source before theirs.
        sources: the mix table.
        positives: those under most queries.
        verdicts: one for each evaluation set.
    """

    mixture: dict[str, Any]
    num_steps: int
    num_pairs: int
    tokens_counted: str
    max_tokens: int
    tokens_per_step: float
    skipped_per_step: float
    duplicates_across: int
    sources: tuple[SourceReport, ...]
    positives: tuple[RepeatedPositive, ...]
    verdicts: tuple[SetVerdict, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Every figure, JSON-able."""
        return asdict(self)


def make_report(
    sources: Sequence[Source],
    config: MixtureConfig,
    *,
    num_steps: int | None = None,
    evaluation: Sequence[EvaluationSet] = (),
    count_tokens: CountTokens | None = None,
    max_tokens: int = 512,
    lengths: Sequence[int] = LENGTHS,
    num_samples: int = 3,
    near_duplicate_rows: int = 0,
    progress: Progress | None = None,
) -> DataReport:
    """Measure the sources as the mixture would use them.

    Args:
        sources: of a store, or in memory.
        config: of the mixture.
        num_steps: planned steps; None = about one pass over the usable rows.
        evaluation: sets to judge.
        count_tokens: the model's own count, for up to 500 rows a source; None takes the
            store's estimates (words, marks and ideographs) of all rows.
        max_tokens: where training cuts a text.
        lengths: for which the share of longer positives is told.
        num_samples: rows shown of each source.
        near_duplicate_rows: rows of a source among which near-duplicates are looked for, about
            30,000 a CPU second; 0 looks for none.
        progress: told how many pairs have been compared with evaluation sets.
    """
    if num_steps is not None and num_steps < 1:
        raise ConfigError(f"num_steps must be >= 1, got {num_steps}")
    if not lengths or min(lengths) < 1 or max_tokens < 1:
        raise ConfigError(f"lengths must be >= 1, got {[*lengths]} and max_tokens {max_tokens}")
    mixture = Mixture(sources, config)
    per_step = mixture.rows_per_step
    steps = num_steps or max(1, round(mixture.num_rows / max(sum(per_step.values()), 1e-9)))
    measured = {
        source.name: _Lengths.of(source, count_tokens, max_tokens, lengths, config.seed)
        for source in mixture.sources
    }
    rows = tuple(
        _source_report(
            source,
            mixture,
            per_step,
            steps,
            measured[source.name],
            num_samples,
            near_duplicate_rows,
        )
        for source in mixture.sources
    )
    tokens = sum(per_step[name] * length.kept for name, length in measured.items())
    return DataReport(
        mixture=asdict(config),
        num_steps=steps,
        num_pairs=sum(len(source.rows) for source in mixture.sources),
        tokens_counted="estimated" if count_tokens is None else "tokenizer",
        max_tokens=max_tokens,
        tokens_per_step=tokens,
        skipped_per_step=_skipped(mixture, steps),
        duplicates_across=_duplicates_across(mixture.sources),
        sources=rows,
        positives=_repeated_positives(mixture.sources),
        verdicts=tuple(judge_evaluation_sets(mixture.sources, evaluation, progress=progress)),
    )


@dataclass(frozen=True)
class _Lengths:
    """Tokens of a source: means of both sides, of both cut at the limit, shares beyond lengths."""

    query: float
    positive: float
    kept: float
    truncated: dict[int, float]

    @classmethod
    def of(
        cls,
        source: Source,
        count_tokens: CountTokens | None,
        max_tokens: int,
        lengths: Sequence[int],
        seed: int,
    ) -> _Lengths:
        if count_tokens is None:
            query, positive = (
                source.rows.numbers(f"{side}_tokens") for side in ("query", "positive")
            )
        else:
            taken = source.rows.take(_sample(source, 500, seed))
            query, positive = (
                np.asarray(count_tokens(texts), np.int64)
                for texts in (taken.queries, taken.positives)
            )
        kept = np.minimum(query, max_tokens) + np.minimum(positive, max_tokens)
        return cls(
            float(query.mean()),
            float(positive.mean()),
            float(kept.mean()),
            {int(length): float((positive > length).mean()) for length in lengths},
        )


def _source_report(
    source: Source,
    mixture: Mixture,
    per_step: dict[str, float],
    steps: int,
    lengths: _Lengths,
    num_samples: int,
    near_duplicate_rows: int,
) -> SourceReport:
    usable = mixture.num_usable[source.name]
    share = mixture.shares[source.name]
    queries, positives = (source.rows.numbers(f"{s}_hash") for s in ("query", "positive"))
    seed = mixture.config.seed
    return SourceReport(
        name=source.name,
        task=source.task,
        num_pairs=len(source.rows),
        num_usable=usable,
        share=share,
        steps=steps * share,
        epochs=steps * per_step[source.name] / usable,
        query_tokens=lengths.query,
        positive_tokens=lengths.positive,
        truncated=lengths.truncated,
        duplicates=float(exact_duplicates(queries, positives).mean()),
        near_duplicates=_near_duplicates(source, near_duplicate_rows, seed),
        shared_positives=float(_queries_of(queries, positives)[1].mean()),
        samples=tuple(
            (pair.query, pair.positive)
            for pair in _pairs(source.rows, _sample(source, num_samples, seed))
        ),
    )


def _near_duplicates(source: Source, num_rows: int, seed: int) -> float | None:
    if not num_rows:
        return None
    rows = source.rows.take(np.sort(_sample(source, num_rows, seed)))
    return float(near_duplicates(rows.queries, rows.positives).mean())


def _pairs(rows: PairRows, numbers: NDArray[np.int64]) -> list[Pair]:
    return list(rows.pairs(numbers))


def _sample(source: Source, number: int, seed: int) -> NDArray[np.int64]:
    """Numbers of different rows, drawn with the seed."""
    shuffle = KeyedPermutation(len(source.rows), key_of("report", seed, source.name))
    return shuffle(np.arange(min(number, len(source.rows))))


def _queries_of(
    queries: NDArray[np.uint64], positives: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each row: under how many queries its positive stands, and whether under several."""
    pair = mix(queries) ^ mix(mix(positives))
    _, first = np.unique(pair, return_index=True)  # a repeated pair is one query
    texts, counts = np.unique(positives[first], return_counts=True)
    number = counts[np.searchsorted(texts, positives)]
    return number, number > 1


def _repeated_positives(
    sources: Sequence[Source], *, most: int = 15
) -> tuple[RepeatedPositive, ...]:
    found = []
    for source in sources:
        queries, positives = (source.rows.numbers(f"{s}_hash") for s in ("query", "positive"))
        number, several = _queries_of(queries, positives)
        _, first = np.unique(positives[several], return_index=True)
        rows = np.flatnonzero(several)[first]
        best = rows[np.argsort(-number[rows], kind="stable")[:most]]
        shown = source.rows.take(best).positives if len(best) else []
        found += [
            RepeatedPositive(source.name, int(n), text[:300])
            for n, text in zip(number[best].tolist(), shown, strict=True)
        ]
    found.sort(key=lambda each: -each.num_queries)
    return tuple(found[:most])


def _duplicates_across(sources: Sequence[Source]) -> int:
    """Rows that repeat a pair of another source before theirs."""
    keys = [
        np.unique(
            mix(source.rows.numbers("query_hash")) ^ mix(mix(source.rows.numbers("positive_hash")))
        )
        for source in sources
    ]
    whole = np.concatenate(keys)
    return len(whole) - len(np.unique(whole))


def _skipped(mixture: Mixture, num_steps: int) -> float:
    steps = np.linspace(0, num_steps - 1, min(_SAMPLED_STEPS, num_steps)).astype(int).tolist()
    return float(np.mean([1 - mixture.plan(step).kept.mean() for step in steps]))
