"""What a run found, as plain values: the one thing ``report_page`` reads.

Nothing here is computed from texts or models; the pipeline fills it in, and a stranger can read
off what the report claims. Empty tuples leave their section out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from opengte.errors import ConfigError
from opengte.metrics.bootstrap import Interval

Role = Literal["base", "final", "other"]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The claim of the page and what it rests on.

    Attributes:
        metric: as printed, e.g. ``MRR@10``.
        base, final: the metric before and after, over the held-out queries.
        difference: final - base, paired per query, resampled by whole groups.
        num_queries, num_documents: of the held-out test and the pool that is searched.
        num_groups: held-out groups that the interval resamples.
        group_name: what a group is, in the plural: ``packages``, ``folders``.
    """

    metric: str
    base: Interval
    final: Interval
    difference: Interval
    num_queries: int
    num_documents: int
    num_groups: int
    group_name: str

    @property
    def verdict(self) -> Literal["gain", "loss", "unclear"]:
        """What the interval of the difference allows to say."""
        if not self.difference.excludes(0.0):
            return "unclear"
        return "gain" if self.difference.mean > 0 else "loss"


@dataclass(frozen=True, kw_only=True)
class SystemRow:
    """One way to search: its name, what it is, its numbers on the held-out test.

    Attributes:
        interval: of the headline metric.
        metrics: all metrics by name, in the order of the columns.
        role: ``base`` and ``final`` are drawn so that the eye finds them.
    """

    name: str
    description: str
    interval: Interval
    metrics: Mapping[str, float]
    role: Role = "other"


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """Base against final on a part of the queries, or on another set altogether.

    Attributes:
        question: what the slice is there to answer, for people.
        difference: final - base, paired.
    """

    name: str
    question: str
    num_queries: int
    base: Interval
    final: Interval
    difference: Interval


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """Training loss on one source.

    Attributes:
        source: its name, or ``all sources``.
        points: (step, nats per pair); steps count through all stages.
    """

    source: str
    points: Sequence[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class SimilarityHistogram:
    """How a system scores texts that belong together, and texts that do not.

    Attributes:
        edges: len + 1 borders of equal bins of cosine similarity.
        positive, random: counts per bin, of right pairs and of random pairs.
        separation: chance that a right pair scores higher than a random one (area under ROC).
    """

    system: str
    edges: Sequence[float]
    positive: Sequence[int]
    random: Sequence[int]
    separation: float


@dataclass(frozen=True, kw_only=True)
class FoundDocument:
    """One hit of a search example.

    Attributes:
        origin: where it stands, e.g. ``json/decoder.py:332``.
        text: its beginning; the page shows a few lines.
    """

    origin: str
    text: str
    score: float
    relevant: bool = False


@dataclass(frozen=True, kw_only=True)
class SearchExample:
    """One held-out query before and after training.

    Attributes:
        rank_before, rank_after: of the first relevant document; None = not among those searched.
        searched: how far down the ranking was looked at, e.g. 100.
    """

    query: str
    rank_before: int | None
    rank_after: int | None
    before: Sequence[FoundDocument]
    after: Sequence[FoundDocument]
    searched: int = 100


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One source of training pairs.

    Attributes:
        share: of the training pairs drawn, in [0, 1] (the mixture, not the size).
        dropped: pairs left out, by reason.
    """

    name: str
    description: str
    num_pairs: int
    share: float
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitRow:
    """One side of the split: train, dev or test."""

    name: str
    num_groups: int
    num_pairs: int
    num_queries: int | None = None
    num_documents: int | None = None


@dataclass(frozen=True, kw_only=True)
class SkippedRow:
    """Files or rows that were not read, for one reason."""

    reason: str
    count: int
    example: str = ""


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """What was read and how it was cut.

    Attributes:
        fingerprint: of everything that was read.
        num_overlap_exact, num_overlap_near: test texts that stand in the training pairs, exactly
            or as near-duplicates; both must be 0.
    """

    fingerprint: str
    num_files: int
    sources: Sequence[SourceRow]
    splits: Sequence[SplitRow]
    num_overlap_exact: int
    num_overlap_near: int
    skipped: Sequence[SkippedRow] = ()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One choice that was measured on dev.

    Attributes:
        general: on the general slice, where it was measured.
        allowed: False where a rule excluded it (the general slice lost too much).
    """

    name: str
    dev: float
    general: float | None = None
    allowed: bool = True
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What dev decided: the candidates, which was kept, by which rule."""

    question: str
    rule: str
    candidates: Sequence[Candidate]


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage of the run.

    Attributes:
        reused: it was not run again because nothing it reads had changed.
    """

    name: str
    seconds: float
    reused: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything on the page.

    Attributes:
        name: the run's name.
        corpus_name: what was searched, for the first sentence.
        made_at: when, as printed.
        version: of opengte.
        stage_starts: (name, first step) of the training stages, for the loss curves.
        better, worse: the held-out queries that gained and lost most.
        training, environment, licences: facts as (name, value).
        reproduce: commands, one a line.
        notes: what a reader must know before believing the numbers.
    """

    name: str
    corpus_name: str
    made_at: str
    version: str
    headline: Headline
    systems: Sequence[SystemRow]
    corpus: CorpusFacts
    slices: Sequence[SliceRow] = ()
    losses: Sequence[LossCurve] = ()
    stage_starts: Sequence[tuple[str, int]] = ()
    similarities: Sequence[SimilarityHistogram] = ()
    better: Sequence[SearchExample] = ()
    worse: Sequence[SearchExample] = ()
    decisions: Sequence[Decision] = ()
    stages: Sequence[StageTime] = ()
    training: Sequence[tuple[str, str]] = ()
    environment: Sequence[tuple[str, str]] = ()
    licences: Sequence[tuple[str, str]] = ()
    reproduce: Sequence[str] = ()
    notes: Sequence[str] = ()


def similarity_histogram(
    system: str, positive: Iterable[float], random: Iterable[float], *, num_bins: int = 48
) -> SimilarityHistogram:
    """Count cosine similarities into equal bins over [-0.2, 1] and measure their separation.

    Similarities beyond the borders go into the outermost bins. ``separation`` is exact (ranks,
    ties counted half), not read off the bins.

    Raises:
        ConfigError: a side is empty or holds a number that is not finite.
    """
    right, other = sorted(positive), sorted(random)
    if not right or not other:
        raise ConfigError("a similarity histogram needs right pairs and random pairs, got none")
    if not all(map(math.isfinite, (*right, *other))):
        raise ConfigError("similarities must be finite")
    low, high = -0.2, 1.0

    def counts(values: Sequence[float]) -> list[int]:
        bins = [0] * num_bins
        for value in values:
            position = int((value - low) / (high - low) * num_bins)
            bins[min(max(position, 0), num_bins - 1)] += 1
        return bins

    return SimilarityHistogram(
        system=system,
        edges=[low + (high - low) * i / num_bins for i in range(num_bins + 1)],
        positive=counts(right),
        random=counts(other),
        separation=_area_under_roc(right, other),
    )


def _area_under_roc(right: Sequence[float], other: Sequence[float]) -> float:
    """P(right > other) + P(right = other) / 2; both sorted."""
    below = through = 0
    total = 0.0
    for value in right:
        while below < len(other) and other[below] < value:
            below += 1
        while through < len(other) and other[through] <= value:
            through += 1
        total += (below + through) / 2
    return total / (len(right) * len(other))
