"""What mining did: shares, score quantiles and examples, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opengte.atomic import write_json
from opengte.mining.corpus import MiningCorpus
from opengte.mining.examples import NUM_EXAMPLES, shorten
from opengte.mining.tally import Tally
from opengte.records import Pair


@dataclass(frozen=True, slots=True)
class MiningExample:
    """One candidate as the teacher and the rules saw it; texts are cut to 400 characters."""

    query: str
    positive: str
    candidate: str
    rank: int
    score: float
    positive_score: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """All candidates that met one fate.

    Attributes:
        count: how many.
        share: of all candidates that were looked at.
        score_quantiles: of the teacher's scores, from a fair sample of up to 1,024.
        examples: up to twenty, drawn evenly.
    """

    count: int
    share: float
    score_quantiles: Mapping[str, float]
    examples: tuple[MiningExample, ...]


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What mining did.

    Attributes:
        num_pairs: pairs that came in and went out.
        num_not_matching: of them marked ``score=0``: passed on, not mined for.
        num_documents: documents that could become negatives.
        num_added_positives: positives that stand in no document; scored, never chosen.
        num_candidates: candidates looked at, over all pairs.
        num_negatives: negatives taken.
        num_full, num_short, num_empty: mined pairs with all, some, none of the negatives
            that were asked for. Short lists stay short: nothing random is put in.
        positives: the positives' own scores; their ``share`` means nothing.
        kept, not_drawn: candidates that became negatives; survivors that were not needed.
        skipped: for each active rule, what it refused. A candidate is charged to the first
            rule that refuses it.
    """

    num_pairs: int
    num_not_matching: int
    num_documents: int
    num_added_positives: int
    num_candidates: int
    num_negatives: int
    num_full: int
    num_short: int
    num_empty: int
    positives: Outcome
    kept: Outcome
    not_drawn: Outcome
    skipped: Mapping[str, Outcome]

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        write_json(path, self.as_json())

    def lines(self) -> list[str]:
        """A few lines for a terminal or a log."""
        text = [
            f"{self.num_pairs} pairs, {self.num_documents} documents: "
            f"{self.num_negatives} negatives taken",
            f"full {self.num_full}, short {self.num_short}, none {self.num_empty}, "
            f"not mined (score 0) {self.num_not_matching}",
        ]
        for name, outcome in {
            **self.skipped,
            "not_drawn": self.not_drawn,
            "kept": self.kept,
        }.items():
            median = outcome.score_quantiles.get("0.50")
            middle = "" if median is None else f", median score {median:.4f}"
            text.append(f"{name}: {outcome.count} ({outcome.share:.1%}){middle}")
        return text


def make_report(
    tallies: Mapping[str, Tally],
    *,
    pairs: Sequence[Pair],
    corpus: MiningCorpus,
    counts: Mapping[str, int],
    rules: Sequence[str],
) -> MiningReport:
    """Turn merged tallies into a report.

    Args:
        tallies: by the name of a rule, or ``positives``, ``kept``, ``not_drawn``.
        pairs: where queries and positives of the examples stand.
        corpus: where candidates of the examples stand.
        counts: the ``num_*`` fields that tallies do not know.
        rules: active rules, in their order.
    """
    num_candidates = sum(tally.count for name, tally in tallies.items() if name != "positives")

    def outcome(name: str) -> Outcome:
        tally = tallies.get(name, Tally.empty())
        return Outcome(
            count=tally.count,
            share=tally.count / num_candidates if num_candidates else 0.0,
            score_quantiles=tally.quantiles(),
            examples=tuple(
                _example(entry, pairs, corpus) for entry in tally.sample[:NUM_EXAMPLES].tolist()
            ),
        )

    return MiningReport(
        num_pairs=len(pairs),
        num_documents=corpus.num_documents,
        num_added_positives=len(corpus) - corpus.num_documents,
        num_candidates=num_candidates,
        positives=outcome("positives"),
        kept=outcome("kept"),
        not_drawn=outcome("not_drawn"),
        skipped={name: outcome(name) for name in rules},
        **counts,
    )


def _example(entry: tuple[Any, ...], pairs: Sequence[Pair], corpus: MiningCorpus) -> MiningExample:
    _, pair, row, rank, score, positive_score = entry
    return MiningExample(
        query=shorten(pairs[pair].query),
        positive=shorten(pairs[pair].positive),
        candidate=shorten(corpus.texts[row]),
        rank=rank,
        score=round(score, 6),
        positive_score=round(positive_score, 6),
    )
