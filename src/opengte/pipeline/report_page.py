"""What a run found -> one HTML page that needs nothing else.

The page holds its own style and drawings, runs no script and asks for nothing from a network: a
content security policy inside it forbids both, so that a text of the corpus can at worst be read.
It reads on a phone, in the dark and on paper.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from opengte.errors import ConfigError
from opengte.metrics.bootstrap import Interval
from opengte.pipeline import report_charts as charts
from opengte.pipeline.report_data import ReportData, SearchExample

SNIPPET_LINES = 9
SNIPPET_CHARACTERS = 700


def render_report(data: ReportData) -> str:
    """The page, complete from ``<!doctype html>`` on.

    Raises:
        ConfigError: ``data`` holds no system, or a number that is not finite.
    """
    if not data.systems:
        raise ConfigError("a report needs at least one system")
    _refuse_non_finite(data)
    environment = Environment(
        loader=PackageLoader("opengte.pipeline"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=score,
        signed=lambda value: charts.number(value, 3, signed=True),
        whole=lambda value: charts.number(value, 0),
        percent=lambda share: f"{charts.number(100 * share, 1)} %",
        duration=duration,
        snippet=snippet,
        change=change,
    )
    return environment.get_template("report.html").render(
        data=data,
        charts=charts,
        system_axis=_interval_axis([system.interval for system in data.systems]),
        slice_axis=_interval_axis([i for row in data.slices for i in (row.base, row.final)]),
        difference_axis=_difference_axis(data),
        metric_names=list(data.systems[0].metrics),
        style=_style(environment),
    )


def score(value: float) -> str:
    """A metric: three decimals."""
    return charts.number(value, 3)


def duration(seconds: float) -> str:
    """``48 s``, ``6 min 12 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def snippet(text: str) -> str:
    """The first lines of a found text, with a mark where it goes on."""
    lines = text.strip("\n").splitlines()
    shown = "\n".join(line.rstrip() for line in lines[:SNIPPET_LINES])[:SNIPPET_CHARACTERS]
    return shown if shown == text.strip("\n") else f"{shown.rstrip()} …"


def change(example: SearchExample) -> str:
    """``rank 14 → 1``; beyond the depth searched: ``below 100 → 3``."""

    def place(rank: int | None) -> str:
        return f"below {example.searched}" if rank is None else str(rank)

    before, after = place(example.rank_before), place(example.rank_after)
    return f"{before} → {after}" if before.startswith("below") else f"rank {before} → {after}"


def _interval_axis(intervals: Sequence[Interval]) -> charts.Axis | None:
    if not intervals:
        return None
    return charts.Axis.around([v for i in intervals for v in (i.low, i.high)], num_ticks=5)


def _difference_axis(data: ReportData) -> charts.Axis:
    shown = [data.headline.difference, *(row.difference for row in data.slices)]
    return charts.Axis.around([v for i in shown for v in (i.low, i.high)], num_ticks=5, zero=True)


def _refuse_non_finite(data: ReportData) -> None:
    for place, value in _numbers(data, "report"):
        if not math.isfinite(value):
            raise ConfigError(f"{place} must be finite, got {value}")


def _numbers(value: Any, place: str) -> Iterator[tuple[str, float]]:
    """Every float below ``value``, with the name of its place."""
    if isinstance(value, float):
        yield place, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{place}.{field.name}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{place}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for position, item in enumerate(value):
            yield from _numbers(item, f"{place}[{position}]")


def _style(environment: Environment) -> Markup:
    """The style sheet as it stands: it is ours and holds nothing of the data."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, "report.css")[0])
