"""Scores of a grid of settings and seeds -> what made a difference, and what could have been seen.

Before anything is run, ``seed_noise`` and ``minimal_detectable_effect`` say how large a difference
must be for so many seeds to show it: a grid that cannot see what it looks for is better not run.
After it, ``ablation_rows`` sets every setting against the first one, with Holm's adjustment.
Axes: S seeds of each setting.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError, DataError
from opengte.metrics.bootstrap import Interval, holm

Settings = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """How much a score moves from one training seed to the next.

    Attributes:
        std: standard deviation over seeds (S - 1 in the denominator), score units.
        low, high: its 95 % interval, for normal scores.
        num_seeds: S.
    """

    std: float
    low: float
    high: float
    num_seeds: int


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One setting of a grid.

    Attributes:
        settings: what was set.
        scores: one a seed.
        mean: over the seeds.
        interval: 95 % t-interval of the mean.
        difference: to the first setting, with its 95 % interval; None for the first itself.
        p_holm: two-sided Welch test, adjusted over the grid.
    """

    settings: Settings
    scores: tuple[float, ...]
    mean: float
    interval: Interval
    difference: Interval | None = None
    p_holm: float = 1.0


def expand_grid(vary: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """All combinations, the first value of each key first: that one is the reference.

    Raises:
        ConfigError: a key without values, or with the same value twice.
    """
    for key, values in vary.items():
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"--vary {key} needs different values, got {list(values)}")
    return [dict(zip(vary, chosen, strict=True)) for chosen in itertools.product(*vary.values())]


def cell_name(settings: Settings, seed: int) -> str:
    """A folder's name for one setting and seed, the same whenever the grid is run again."""
    parts = [f"{key}={value}" for key, value in settings.items()] or ["reference"]
    return re.sub(r"[^\w.=,+-]", "_", ",".join([*parts, f"seed={seed}"]))


def seed_noise(scores: Sequence[float]) -> SeedNoise:
    """The noise of training seeds, from S >= 2 runs that differ in nothing else.

    Raises:
        DataError: fewer than two scores.
    """
    from scipy.stats import chi2

    if len(scores) < 2:
        raise DataError(f"seed noise needs at least two seeds, got {len(scores)}")
    variance, freedom = float(np.var(scores, ddof=1)), len(scores) - 1
    low, high = (freedom * variance / chi2.ppf(q, freedom) for q in (0.975, 0.025))
    return SeedNoise(
        std=variance**0.5, low=float(low**0.5), high=float(high**0.5), num_seeds=len(scores)
    )


def minimal_detectable_effect(
    std: float,
    num_seeds: int,
    *,
    num_comparisons: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest difference of two means that S seeds each will show with the given power.

    Two-sided t-test with 2 S - 2 degrees of freedom, at ``alpha / num_comparisons`` (the first step
    of Holm's method), by the noncentral t distribution.

    Args:
        std: of a score over seeds.
        num_seeds: S of each setting, at least 2.
        num_comparisons: settings set against the reference.
        alpha: chance of any false alarm.
        power: chance to see the difference.

    Raises:
        ConfigError: fewer than two seeds: nothing can be detected.
    """
    from scipy.optimize import brentq
    from scipy.stats import t

    if num_seeds < 2:
        raise ConfigError(f"an ablation needs --seeds 2 at least, got {num_seeds}")
    freedom = 2 * num_seeds - 2
    limits = _rejection_limits(float(t.ppf(1 - alpha / num_comparisons / 2, freedom)), freedom)
    upper = 1.0
    while _power(upper, limits) < power:
        upper *= 2
    shift = brentq(lambda s: _power(s, limits) - power, 0.0, upper)
    return float(shift) * std * (2 / num_seeds) ** 0.5


def _rejection_limits(critical: float, freedom: int) -> NDArray[np.float64]:
    """What abs(Z + shift) must exceed, for 4,000 equally likely estimates of the deviation."""
    from scipy.stats import chi2

    quantiles = (np.arange(4_000) + 0.5) / 4_000
    limits: NDArray[np.float64] = critical * np.sqrt(chi2.ppf(quantiles, freedom) / freedom)
    return limits


def _power(shift: float, limits: NDArray[np.float64]) -> float:
    """P(abs(T) > critical) for the noncentral t, as a mean over its chi-square part.

    Scipy's own distribution gives NaN at the large shifts that two seeds need.
    """
    from scipy.special import ndtr

    return float(np.mean(ndtr(shift - limits) + ndtr(-shift - limits)))


def ablation_rows(cells: Sequence[tuple[Settings, Sequence[float]]]) -> list[AblationRow]:
    """Each setting against the first one.

    Args:
        cells: settings and their scores, one a seed, at least two each.

    Raises:
        DataError: a setting with fewer than two seeds.
    """
    rows: list[AblationRow] = []
    p_values: list[float] = []
    for settings, scores in cells:
        if len(scores) < 2:
            raise DataError(
                f"setting {dict(settings)} has {len(scores)} seeds; at least 2 are needed"
            )
        row = AblationRow(
            settings=settings,
            scores=tuple(scores),
            mean=float(np.mean(scores)),
            interval=_mean_interval(scores),
        )
        if rows:
            difference, p_value = _welch(scores, rows[0].scores)
            row = replace(row, difference=difference)
            p_values.append(p_value)
        rows.append(row)
    adjusted = [1.0, *holm(p_values)]
    return [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]


def ablation_lines(rows: Sequence[AblationRow], *, metric: str) -> list[str]:
    """The table for a terminal."""
    names = [_label(row.settings) for row in rows]
    width = max(map(len, names))
    lines = [f"{'setting':{width}}  {metric:>10}  seeds  {'difference':>24}  p (Holm)"]
    for name, row in zip(names, rows, strict=True):
        change = "reference" if row.difference is None else _signed(row.difference)
        p_value = "" if row.difference is None else f"{row.p_holm:.3f}"
        lines.append(
            f"{name:{width}}  {row.mean:10.4f}  {len(row.scores):5}  {change:>24}  {p_value:>8}"
        )
    return lines


def ablation_svg(rows: Sequence[AblationRow], *, metric: str) -> str:
    """Means with intervals, one line a setting, seeds as small dots; a drawing without scripts."""
    from xml.sax.saxutils import escape

    low = min(min(row.interval.low, *row.scores) for row in rows)
    high = max(max(row.interval.high, *row.scores) for row in rows)
    margin = (high - low) * 0.05 or 0.01
    low, high = low - margin, high + margin
    left, right, step = 260, 640, 26

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 1)

    height = step * len(rows) + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">',
        f"<title>{escape(metric)} by setting, with 95 % intervals over seeds</title>",
        f'<line x1="{x(rows[0].mean)}" y1="8" x2="{x(rows[0].mean)}" y2="{height - 30}" '
        'stroke="currentColor" stroke-dasharray="3 3" opacity="0.5"/>',
    ]
    for number, row in enumerate(rows):
        y, label = 20 + number * step, escape(_label(row.settings))
        parts += [
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{label}</text>',
            f'<line x1="{x(row.interval.low)}" y1="{y}" x2="{x(row.interval.high)}" y2="{y}" '
            'stroke="currentColor" stroke-width="2"/>',
            *(f'<circle cx="{x(score)}" cy="{y}" r="2" opacity="0.5"/>' for score in row.scores),
            f'<circle cx="{x(row.mean)}" cy="{y}" r="4"/>',
        ]
    for value in np.linspace(low + margin, high - margin, 4):
        parts.append(
            f'<text x="{x(value)}" y="{height - 8}" text-anchor="middle">{value:.4f}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _mean_interval(scores: Sequence[float]) -> Interval:
    from scipy.stats import t

    mean, freedom = float(np.mean(scores)), len(scores) - 1
    half = float(t.ppf(0.975, freedom)) * float(np.std(scores, ddof=1)) / len(scores) ** 0.5
    return Interval(mean, mean - half, mean + half, "seeds")


def _welch(a: Sequence[float], b: Sequence[float]) -> tuple[Interval, float]:
    """Difference of means with its interval, and the two-sided p-value."""
    from scipy.stats import t

    parts = [float(np.var(x, ddof=1)) / len(x) for x in (a, b)]
    mean, error = float(np.mean(a) - np.mean(b)), sum(parts) ** 0.5
    if error == 0.0:
        return Interval(mean, mean, mean, "seeds"), float(mean == 0.0)
    squares = sum(p**2 / (len(x) - 1) for p, x in zip(parts, (a, b), strict=True))
    freedom = sum(parts) ** 2 / squares
    half = float(t.ppf(0.975, freedom)) * error
    p_value = 2 * float(t.sf(abs(mean) / error, freedom))
    return Interval(mean, mean - half, mean + half, "seeds"), p_value


def _label(settings: Settings) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items()) or "reference"


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
