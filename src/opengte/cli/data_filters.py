"""Options that name filters of pairs, for the commands that write stores."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from opengte.data.evaluation_sets import EvaluationSet
    from opengte.data.filters import FilterReport, FiltersConfig


@dataclass(frozen=True, kw_only=True)
class ChosenFilters:
    """The filter options of a command, as they were given."""

    drop_duplicates: str | None
    drop_near_duplicates: float | None
    drop_repetitive: bool
    drop_copies: bool
    drop_answered_negatives: bool
    min_query_words: int | None
    max_query_words: int | None
    min_positive_words: int | None
    max_positive_words: int | None
    max_length_ratio: float | None
    min_score: float | None
    language: tuple[str, ...]
    decontaminate: tuple[Path, ...]

    def __bool__(self) -> bool:
        return self != _NOTHING

    def config(self) -> FiltersConfig:
        """The filters that were named."""
        from opengte.data import filters
        from opengte.data.minhash import NearDuplicateConfig

        near = self.drop_near_duplicates
        return filters.FiltersConfig(
            length=self._length(),
            repetition=filters.RepetitionFilter() if self.drop_repetitive else None,
            language=filters.LanguageFilter(query=self.language, positive=self.language)
            if self.language
            else None,
            score=None if self.min_score is None else filters.ScoreFilter(min_score=self.min_score),
            copies=filters.CopyFilter() if self.drop_copies else None,
            answers=filters.AnswerFilter() if self.drop_answered_negatives else None,
            duplicates=self.drop_duplicates,  # type: ignore[arg-type]
            near_duplicates=None if near is None else NearDuplicateConfig(threshold=near),
        )

    def evaluation(self) -> list[EvaluationSet]:
        """The sets whose texts must not stand in training pairs."""
        from opengte.data.evaluation_sets import read_evaluation_set

        return [read_evaluation_set(path) for path in self.decontaminate]

    def _length(self) -> Any:
        from opengte.data.filters import LengthFilter

        given = {
            "min_query_words": self.min_query_words,
            "max_query_words": self.max_query_words,
            "min_positive_words": self.min_positive_words,
            "max_positive_words": self.max_positive_words,
            "max_ratio": self.max_length_ratio,
        }
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return LengthFilter(**chosen) if chosen else None


_NOTHING = ChosenFilters(
    drop_duplicates=None,
    drop_near_duplicates=None,
    drop_repetitive=False,
    drop_copies=False,
    drop_answered_negatives=False,
    min_query_words=None,
    max_query_words=None,
    min_positive_words=None,
    max_positive_words=None,
    max_length_ratio=None,
    min_score=None,
    language=(),
    decontaminate=(),
)
_COUNT = click.IntRange(min=0)
_OPTIONS = (
    click.option(
        "--drop-duplicates",
        type=click.Choice(["pair", "query", "positive"]),
        help="Rows that repeat an earlier one, of any source.",
    ),
    click.option(
        "--drop-near-duplicates",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="JACCARD",
        help="Rows like an earlier one of their source on both sides; 0.7 is usual.",
    ),
    click.option("--drop-repetitive", is_flag=True, help="Texts that say the same again."),
    click.option("--drop-copies", is_flag=True, help="Positives that copy their query."),
    click.option(
        "--drop-answered-negatives", is_flag=True, help="Hard negatives that hold the answer."
    ),
    click.option("--min-query-words", type=_COUNT),
    click.option("--max-query-words", type=_COUNT),
    click.option("--min-positive-words", type=_COUNT),
    click.option("--max-positive-words", type=_COUNT),
    click.option("--max-length-ratio", type=float, help="Of the longer side to the shorter."),
    click.option("--min-score", type=float, help="Rows with a lower score go."),
    click.option(
        "--language", multiple=True, metavar="CODE", help="Both sides must be in one of these."
    ),
    click.option(
        "--decontaminate",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="SET",
        help="Rows with a text of this evaluation set go; may be given again.",
    ),
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one argument, ``filters``."""

    @functools.wraps(command)
    def with_filters(**arguments: Any) -> Any:
        names = ChosenFilters.__dataclass_fields__
        chosen = ChosenFilters(**{name: arguments.pop(name) for name in names})
        return command(filters=chosen, **arguments)

    for option in reversed(_OPTIONS):
        with_filters = option(with_filters)
    return with_filters


def tell_filtered(report: FilterReport) -> None:
    """Print how many pairs went, by reason."""
    for reason, number in report.dropped.most_common():
        click.echo(f"{number:>12,}  dropped: {reason}", err=True)
    for reason, number in report.negatives_dropped.most_common():
        click.echo(f"{number:>12,}  hard negatives dropped: {reason}", err=True)
    click.echo(f"{report.num_kept:,} of {report.num_pairs:,} pairs kept by the filters")
