"""Sources: named families of pairs, with what training must know about each.

A source is where rows come from (``PairRows``) plus the facts that hold for all of them: the
task, the prompts, whether the sides may be swapped, whether its rows may serve each other as
negatives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from opengte.data.negatives import RefreshedNegatives
from opengte.data.pair_rows import PairRows
from opengte.errors import ConfigError, DataError
from opengte.records import Pair


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """What stands in front of the texts of each side while training.

    The most specific one counts: a source's, else its task's, else the general one. GTE and
    BGE-M3 put nothing; E5 puts ``query: `` and ``passage: ``; Qwen3-Embedding an instruction
    before queries alone.

    Attributes:
        query: in front of queries.
        document: in front of positives and negatives.
        query_by_task, document_by_task: by the name of the task.
        query_by_source, document_by_source: by the name of the source.
    """

    query: str = ""
    document: str = ""
    query_by_task: Mapping[str, str] = field(default_factory=dict)
    document_by_task: Mapping[str, str] = field(default_factory=dict)
    query_by_source: Mapping[str, str] = field(default_factory=dict)
    document_by_source: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, source: str, task: str) -> tuple[str, str]:
        """The prompts of one source's queries and documents."""
        query = self.query_by_source.get(source, self.query_by_task.get(task, self.query))
        document = self.document_by_source.get(
            source, self.document_by_task.get(task, self.document)
        )
        return query, document

    def check(self, sources: Iterable[Source]) -> None:
        """Refuse prompts for sources or tasks that do not exist.

        Raises:
            ConfigError: names the unknown one and those there are.
        """
        given = list(sources)
        known = {
            "source": {source.name for source in given},
            "task": {source.task for source in given},
        }
        for what, names in known.items():
            for side in ("query", "document"):
                for name in getattr(self, f"{side}_by_{what}"):
                    if name not in names:
                        raise ConfigError(
                            f"{side}_by_{what}: no {what} {name!r}; there are: "
                            f"{', '.join(sorted(names))}"
                        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A named family of pairs.

    Attributes:
        name: unique in a mixture.
        rows: the pairs.
        task: family of the task; one-task batches join sources of the same (``retrieval``,
            ``sts``, ``nli``, ``classification``, ``bitext``, ...).
        symmetric: either side may stand as the query (paraphrases, translations).
        in_batch_negatives: whether other rows' texts are negatives; not for classes, say.
        scored: use every row with its score, for losses on graded pairs. Otherwise only rows
            that match are used, for contrastive losses.
        min_score: least score of a row that counts as a match. Whatever it is, a score of 0
            is no match, and a row without a score is one.
        weight: multiplies what alpha gives.
        query_prompt, document_prompt: the source's own; None = what the mixture's prompts say.
        fingerprint: changes when the rows do; made from the rows' hashes if not given.
        matching: numbers of the rows that match and whose sides differ, where known beforehand
            (for ``min_score`` 0); a store knows them.
        all_match: every row is known to be such a row; spares looking.
        refreshed: hard negatives that take the place of the rows' own from a step on, in the
            order of their numbers.
    """

    name: str
    rows: PairRows
    task: str = "retrieval"
    symmetric: bool = False
    in_batch_negatives: bool = True
    scored: bool = False
    min_score: float = 0.0
    weight: float = 1.0
    query_prompt: str | None = None
    document_prompt: str | None = None
    fingerprint: str = ""
    matching: NDArray[np.integer] | None = None
    all_match: bool = False
    refreshed: tuple[RefreshedNegatives, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no mixture could use."""
        if not self.name:
            raise ConfigError("a source needs a name")
        if not (self.weight >= 0 and np.isfinite(self.weight)):
            raise ConfigError(f"source {self.name!r}: weight must be >= 0, got {self.weight}")
        if not 0 <= self.min_score <= 1:
            raise ConfigError(
                f"source {self.name!r}: min_score must lie in [0, 1], got {self.min_score}"
            )
        if self.scored and not self.rows.has("score"):
            raise DataError(
                f"source {self.name!r} is to be used with its scores, but no row has one"
            )

    @classmethod
    def from_pairs(cls, name: str, pairs: Iterable[Pair], **facts: object) -> Source:
        """A source held in memory; ``facts`` are the other attributes."""
        return cls(name=name, rows=PairRows.from_pairs(pairs), **facts)  # type: ignore[arg-type]

    def usable_rows(self) -> NDArray[np.integer] | None:
        """Numbers of the rows that a batch may hold, ascending; None means all.

        With ``scored``: those with a score. Otherwise those that match and whose sides are
        different texts, for a text is no evidence of what answers it.
        """
        if self.scored:
            return _where(~np.isnan(self.rows.numbers("score")))
        if self.min_score == 0 and (self.all_match or self.matching is not None):
            return self.matching
        usable = self.rows.numbers("query_hash") != self.rows.numbers("positive_hash")
        if self.rows.has("score"):
            score = self.rows.numbers("score")
            usable &= np.isnan(score) | ((score > 0) & (score >= self.min_score))
        return _where(usable)


def _where(usable: NDArray[np.bool_]) -> NDArray[np.integer] | None:
    if usable.all():
        return None
    rows = np.flatnonzero(usable)
    return rows.astype(np.uint32) if len(usable) < 1 << 32 else rows
