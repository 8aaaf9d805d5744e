"""A grid of settings and seeds, and a way to run one of them -> the table, told as it grows.

The reference runs first with all its seeds: from it come the seed noise and the smallest difference
that so many seeds can show, and both are told before any other setting is run. What runs a cell is
handed in and must be repeatable: called again for a finished cell it returns the same score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opengte.atomic import write_json, write_text
from opengte.errors import ConfigError, DataError
from opengte.evaluation.ablation import (
    AblationRow,
    SeedNoise,
    Settings,
    ablation_lines,
    ablation_rows,
    ablation_svg,
    expand_grid,
    minimal_detectable_effect,
    seed_noise,
)

RunCell = Callable[[Settings, int], float]
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A finished grid.

    Attributes:
        metric: what the scores are.
        noise: of the reference, over its seeds.
        detectable: the smallest difference that the grid shows with 80 % power.
        rows: one a setting, the reference first.
    """

    metric: str
    noise: SeedNoise
    detectable: float
    rows: Sequence[AblationRow]


def run_grid(
    vary: Mapping[str, Sequence[str]], run_cell: RunCell, *, num_seeds: int, metric: str, tell: Tell
) -> Ablation:
    """Run every setting with every seed.

    Args:
        vary: key to its values; the first values together are the reference.
        run_cell: settings and a seed to a score.
        num_seeds: S, seeds 0 to S - 1.
        metric: what a score is, for people.
        tell: gets one line at a time.

    Raises:
        ConfigError: fewer than two seeds, or nothing to compare with the reference.
    """
    grid = expand_grid(vary)
    if len(grid) < 2:
        raise ConfigError("an ablation needs two settings at least: --vary KEY=A,B")
    if num_seeds < 2:
        raise ConfigError(f"an ablation needs --seeds 2 at least, got {num_seeds}")
    cells: list[tuple[Settings, list[float]]] = []
    noise, detectable = None, 0.0
    for settings in grid:
        scores = [run_cell(settings, seed) for seed in range(num_seeds)]
        cells.append((settings, scores))
        if noise is None:
            noise = seed_noise(scores)
            detectable = minimal_detectable_effect(
                noise.std, num_seeds, num_comparisons=len(grid) - 1
            )
            for line in noise_lines(noise, detectable, metric=metric, num_settings=len(grid)):
                tell(line)
    assert noise is not None
    return Ablation(metric=metric, noise=noise, detectable=detectable, rows=ablation_rows(cells))


def noise_lines(
    noise: SeedNoise, detectable: float, *, metric: str, num_settings: int
) -> list[str]:
    """What a grid will be able to see."""
    return [
        f"seed noise of {metric}: {noise.std:.4f} (95 % [{noise.low:.4f}, {noise.high:.4f}]), "
        f"from {noise.num_seeds} seeds of the reference",
        f"smallest difference that {num_settings} settings of {noise.num_seeds} seeds show with "
        f"80 % power: {detectable:.4f}",
    ]


def write_ablation(folder: str | Path, ablation: Ablation) -> Path:
    """Write ``ablation.json``, the table as ``ablation.txt`` and the plot as ``ablation.svg``.

    Returns:
        The JSON file.
    """
    folder = Path(folder)
    lines = [
        *noise_lines(
            ablation.noise,
            ablation.detectable,
            metric=ablation.metric,
            num_settings=len(ablation.rows),
        ),
        "",
        *ablation_lines(ablation.rows, metric=ablation.metric),
    ]
    write_text(folder / "ablation.txt", "\n".join(lines) + "\n")
    write_text(folder / "ablation.svg", ablation_svg(ablation.rows, metric=ablation.metric))
    write_json(folder / "ablation.json", ablation_json(ablation))
    return folder / "ablation.json"


def ablation_json(ablation: Ablation) -> dict[str, Any]:
    """The grid as JSON."""
    return {
        "metric": ablation.metric,
        "seed_noise": asdict(ablation.noise),
        "minimal_detectable_effect": ablation.detectable,
        "rows": [
            {
                "settings": dict(row.settings),
                "scores": list(row.scores),
                "mean": row.mean,
                "ci95": [row.interval.low, row.interval.high],
                "difference": None
                if row.difference is None
                else {
                    "mean": row.difference.mean,
                    "ci95": [row.difference.low, row.difference.high],
                },
                "p_holm": None if row.difference is None else row.p_holm,
            }
            for row in ablation.rows
        ],
    }


def score_in(results: Mapping[str, Any], metric: str, *, path: Path) -> float:
    """One number out of an evaluate stage's ``results.json``.

    Args:
        results: its content.
        metric: keys joined by ``/``, e.g. ``systems/dense/mrr@10``; keys that hold a ``/``
            themselves (``scifact/dense``) are found too. ``tasks`` alone is the mean of all main
            scores.
        path: for the message.

    Raises:
        DataError: no such number; the message lists what is there.
    """
    if metric == "tasks" and results.get("tasks"):
        scores = [float(task["main_score"]) for task in results["tasks"].values()]
        return sum(scores) / len(scores)
    numbers = dict(_numbers(results, ""))
    if metric not in numbers:
        known = ", ".join(sorted(numbers)[:12])
        raise DataError(f"no number {metric!r} in these results; there are {known}", path=path)
    return numbers[metric]


def _numbers(values: Mapping[str, Any], prefix: str) -> list[tuple[str, float]]:
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}{key}", float(value)))
    return found
