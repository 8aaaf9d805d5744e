"""Numbers -> small drawings in SVG, coloured by the page's style sheet.

Every chart is one ``<svg>`` with a name for screen readers, without scripts, fonts or sizes of
its own: the page decides how wide it is and whether it is dark. Texts are escaped by Markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from opengte.pipeline.report_data import LossCurve, SimilarityHistogram

WIDTH, HEIGHT = 340, 188
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 12, 30
POINTS_DRAWN = 240
SMOOTHED_SHARE = 0.05


@dataclass(frozen=True)
class Axis:
    """A range of values with round ticks inside it."""

    low: float
    high: float
    ticks: tuple[float, ...]
    decimals: int

    @classmethod
    def around(cls, values: Sequence[float], *, num_ticks: int = 5, zero: bool = False) -> Axis:
        """The smallest axis with round ends that holds ``values`` (and 0, with ``zero``)."""
        low, high = min(values), max(values)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        step = _round_step((high - low) / num_ticks)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        ticks = tuple(round(i * step, decimals + 2) for i in range(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks, decimals)

    def share(self, value: float) -> float:
        """Where ``value`` lies: 0 at the low end, 1 at the high end; cut to them."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def percent(self, value: float) -> str:
        """``share`` as a CSS length."""
        return f"{100 * self.share(value):.2f}%"

    def label(self, value: float) -> str:
        """A tick's text."""
        return number(value, self.decimals)


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """A number as people print it: thousands apart, a true minus sign."""
    text = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    # -0.000 is a zero.
    if text.lstrip("+-").strip("0.,") == "":
        text = text.lstrip("+-")
    return text.replace("-", "−")


def loss_axes(curves: Sequence[LossCurve]) -> tuple[Axis, Axis]:
    """Step and loss axes that all curves share, so that they can be compared."""
    steps = [step for curve in curves for step, _ in curve.points]
    losses = sorted(loss for curve in curves for _, loss in curve.points)
    # One wild first step should not flatten all others.
    top = losses[min(len(losses) - 1, int(0.995 * len(losses)))]
    return Axis.around([0, *steps], num_ticks=4), Axis.around([0.0, top], num_ticks=4)


def loss_chart(
    curve: LossCurve, steps: Axis, losses: Axis, stage_starts: Sequence[tuple[str, int]] = ()
) -> Markup:
    """Loss over steps: every step pale, the running mean strong, stages set apart."""
    parts = [_grid(losses), _steps_axis(steps)]
    parts += [_stage_mark(name, _x(steps, start)) for name, start in stage_starts]
    for piece in _by_stage(curve.points, [start for _, start in stage_starts]):
        drawn = _thinned(piece, POINTS_DRAWN)
        if len(drawn) == 1:
            ((step, loss),) = drawn
            parts.append(
                Markup('<circle class="point" cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(
                    _x(steps, step), _y(losses, loss)
                )
            )
            continue
        window = max(1, round(SMOOTHED_SHARE * len(drawn)))
        smooth = _running_mean(drawn, window)
        for kind, points in (("raw", drawn), ("smooth", smooth)):
            path = _path([(_x(steps, step), _y(losses, loss)) for step, loss in points])
            parts.append(Markup('<path class="{}" d="{}"/>').format(kind, path))
    first, last = curve.points[0][1], curve.points[-1][1]
    name = f"Loss on {curve.source}: from {first:.2f} to {last:.2f} nats per pair"
    return _svg(name, parts)


def histogram_chart(histogram: SimilarityHistogram, shares: Axis) -> Markup:
    """Right pairs over random pairs, as shares of their own number."""
    cosines = Axis.around([histogram.edges[0], histogram.edges[-1]], num_ticks=6)
    parts = [_grid(shares, percent=True), _value_axis(cosines)]
    for kind, counts in (("random", histogram.random), ("positive", histogram.positive)):
        total = sum(counts) or 1
        base = HEIGHT - BOTTOM
        corners: list[tuple[float, float]] = [(_x(cosines, histogram.edges[0]), base)]
        for left, right, count in zip(
            histogram.edges[:-1], histogram.edges[1:], counts, strict=True
        ):
            y = _y(shares, count / total)
            corners += [(_x(cosines, left), y), (_x(cosines, right), y)]
        corners.append((_x(cosines, histogram.edges[-1]), base))
        parts.append(Markup('<path class="bars {}" d="{}"/>').format(kind, _path(corners)))
    name = (
        f"Cosine similarities of {histogram.system}: a right pair scores higher than a random "
        f"one in {100 * histogram.separation:.1f} % of cases"
    )
    return _svg(name, parts)


def share_axis(histograms: Sequence[SimilarityHistogram]) -> Axis:
    """One axis for all histograms: shares of pairs per bin."""
    tops = [
        max(counts) / (sum(counts) or 1)
        for histogram in histograms
        for counts in (histogram.positive, histogram.random)
    ]
    return Axis.around([0.0, max(tops)], num_ticks=4)


def _svg(name: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, HEIGHT, name
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def _stage_mark(name: str, x: float) -> Markup:
    """A dotted line where a stage begins, its name on the side that has room."""
    at_end = x > 0.75 * WIDTH
    return Markup(
        '<line class="stage" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
        '<text class="stage-name{3}" x="{4:.1f}" y="{5}">{6}</text>'
    ).format(
        *(x, TOP, HEIGHT - BOTTOM, " end" if at_end else "", x - 4 if at_end else x + 4),
        *(TOP + 8, name),
    )


def _grid(axis: Axis, *, percent: bool = False) -> Markup:
    lines = []
    for tick in axis.ticks:
        text = f"{100 * tick:.0f} %" if percent else axis.label(tick)
        y = _y(axis, tick)
        lines.append(
            Markup(
                '<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="tick left" x="{}" y="{:.1f}">{}</text>'
            ).format(
                *("zero" if tick == axis.low else "grid", LEFT, WIDTH - RIGHT, y, y),
                *(LEFT - 5, y + 3.5, text),
            )
        )
    return Markup("").join(lines)


def _steps_axis(axis: Axis) -> Markup:
    return _bottom(axis, [(tick, axis.label(tick)) for tick in axis.ticks if tick <= axis.high])


def _value_axis(axis: Axis) -> Markup:
    return _bottom(axis, [(tick, axis.label(tick)) for tick in axis.ticks])


def _bottom(axis: Axis, ticks: Sequence[tuple[float, str]]) -> Markup:
    return Markup("").join(
        Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(
            _x(axis, tick), HEIGHT - BOTTOM + 15, text
        )
        for tick, text in ticks
    )


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _round_step(size: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= size * (1 - 1e-9))


def _by_stage(
    points: Sequence[tuple[int, float]], starts: Sequence[int]
) -> list[list[tuple[int, float]]]:
    """Cut at stage starts: the loss of another stage is another quantity."""
    pieces: dict[int, list[tuple[int, float]]] = {}
    for step, loss in points:
        pieces.setdefault(sum(start <= step for start in starts), []).append((step, loss))
    return list(pieces.values())


def _thinned(points: Sequence[tuple[int, float]], limit: int) -> list[tuple[float, float]]:
    """At most ``limit`` points, each the mean of its neighbours."""
    size = math.ceil(len(points) / limit)
    blocks = [points[i : i + size] for i in range(0, len(points), size)]
    return [
        (sum(step for step, _ in b) / len(b), sum(loss for _, loss in b) / len(b)) for b in blocks
    ]


def _running_mean(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """The mean of ``window`` points to each side."""
    out = []
    for i, (step, _) in enumerate(points):
        near = points[max(0, i - window) : i + window + 1]
        out.append((step, sum(loss for _, loss in near) / len(near)))
    return out
