"""Results -> the lines that a terminal shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from opengte.evaluation.comparison import TaskComparison
from opengte.evaluation.marks import IN_DOMAIN, LEAKED, ZERO_SHOT
from opengte.evaluation.published_scores import Comparison, benchmark_tasks, published_name
from opengte.evaluation.results import TaskResult

_BEST = 5  # published scores that are shown of each task


def result_line(result: TaskResult) -> str:
    """A result with its interval, what it cost and whether the model had seen it."""
    low, high = result.ci95
    line = (
        f"{result.key:32} {result.main_metric:22} {result.main_score:.4f} "
        f"[{low:.4f}, {high:.4f}]  {result.seconds:6.1f} s {result.num_tokens:>10,} tokens"
    )
    return f"{line}  {result.mark}" if result.mark else line


def summary_lines(
    results: Sequence[TaskResult], *, benchmark: str = "", unknown_starts: Sequence[str] = ()
) -> list[str]:
    """The mean over tasks that were not trained on, and how much of a benchmark this is."""
    lines = []
    dense = [result for result in results if result.retriever in ("", "dense")]
    counted = [result for result in dense if result.mark not in (IN_DOMAIN, LEAKED)]
    if len(dense) > 1 and counted:
        mean = float(np.mean([result.main_score for result in counted]))
        left_out = len(dense) - len(counted)
        trained = f"; {left_out} left out that the model was trained on" if left_out else ""
        lines.append(f"mean over {len(counted)} tasks: {mean:.4f}{trained}")
    scopes = sorted({r.interval_scope for r in results if r.interval_scope != "none"})
    if scopes:
        lines.append(f"intervals: 95 %, drawn from {'; '.join(scopes)}")
    if unknown_starts and any(result.mark == ZERO_SHOT for result in results):
        lines.append(
            f"zero-shot as far as is known: what {', '.join(unknown_starts)} had been trained on "
            "before, or holds, stands in no manifest"
        )
    if benchmark:
        lines += _benchmark_lines(dense, benchmark)
    return lines


def published_lines(compared: Sequence[Comparison], *, model: str, best: int = _BEST) -> list[str]:
    """Our scores beside the best published ones of each task, and those of the same model."""
    lines = []
    for (task, benchmark), group in groupby(
        compared, key=lambda row: (row.task, row.published.benchmark)
    ):
        rows = list(group)
        lines.append(f"{task} in {benchmark}, {rows[0].metric}: here {rows[0].ours:.4f}")
        for rank, row in enumerate(rows):
            same = is_same_model(row.published.model, model)
            if rank < best or same:
                who = " (authors' own figure)" if row.published.by_authors else ""
                lines.append(
                    f"  {row.published.score:.4f}  {row.difference:+.4f}  {row.published.model}"
                    f"{'  <- the same model' if same else ''}{who}"
                )
    return lines


def comparison_lines(a: str, b: str, compared: Sequence[TaskComparison]) -> list[str]:
    """Paired differences of two systems, task by task."""
    lines = [f"{a} against {b}: paired, {compared[0].difference.scope}, p by Holm over tasks"]
    for row in compared:
        items = f"  {row.wins} won, {row.losses} lost" if row.wins + row.losses else ""
        low, high = row.difference.low, row.difference.high
        lines.append(
            f"  {row.key:30} {row.metric:16} {row.a:.4f} - {row.b:.4f} = {row.difference.mean:+.4f}"
            f" [{low:+.4f}, {high:+.4f}]  p {row.p_holm:.3f}{items}"
        )
    return lines


def is_same_model(published: str, model: str) -> bool:
    """Whether a hub name and a path or name given here end alike."""
    return published.rpartition("/")[2].lower() == model.rstrip("/").rpartition("/")[2].lower()


def _benchmark_lines(results: Sequence[TaskResult], benchmark: str) -> list[str]:
    tasks = benchmark_tasks(benchmark)
    names = {result.name: published_name(result) for result in results}
    fitting = {name for name in names.values() if name in tasks}
    lines = [f"{len(fitting)} of {len(tasks)} tasks of {benchmark}"]
    if fitting < set(tasks):
        lines[0] += ": this is not its score"
    for name, published in names.items():
        if published not in tasks:
            lines.append(
                f"  {name} is no task of {benchmark}: another name, split or number of items"
            )
    return lines
