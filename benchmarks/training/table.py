"""The training benchmark's results -> the tables of the reference page.

    python benchmarks/training/table.py

A test holds the page against ``results.json``.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opengte.atomic import write_text

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from pages import with_block  # noqa: E402

PAGE = HERE.parents[1] / "docs/reference/training.md"
RESULTS = HERE / "results.json"
OURS, PEER = "opengte", "sentence-transformers"


def table(results: Mapping[str, Any]) -> str:
    """Speed and memory by batch, dropout and precision; held-out scores."""
    lines = [
        "| pairs | dropout | precision | sentence-transformers | ours | speed | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for dropout in (0.1, 0.0):
        for precision in ("float32", "bfloat16"):
            lines.append(_line(results, batch_size=64, dropout=dropout, precision=precision))
    for batch_size in (1024, 4096):
        cell = {"batch_size": batch_size, "dropout": 0.1, "precision": "bfloat16"}
        lines.append(_line(results, **cell))
    return "\n".join(lines) + "\n\n" + _quality(results["quality"])


def _line(results: Mapping[str, Any], **cell: Any) -> str:
    cells, values = [], {}
    for system in (PEER, OURS):
        rows = [
            row
            for row in results["rows"]
            if row["system"] == system
            and row["steps"] in (1, 3)  # not the long runs whose scores are compared
            and all(row[name] == value for name, value in cell.items())
        ]
        speed, peak = (
            statistics.median(row[field] for row in rows)
            for field in ("tokens_per_cpu_second", "peak_mib")
        )
        values[system] = speed, peak
        cells.append(f"{speed:,.0f}, {peak / 1024:.1f} GiB")
    speed, memory = values[OURS][0] / values[PEER][0], values[PEER][1] / values[OURS][1]
    name = f"{cell['batch_size']:,}" + ("" if cell["batch_size"] == 64 else ", cached")
    return (
        f"| {name} | {cell['dropout']:g} | {cell['precision']} | {cells[0]} | {cells[1]} "
        f"| {speed:.2f} | {memory:.2f} |"
    )


def _quality(found: Mapping[str, Any]) -> str:
    def difference(name: str) -> str:
        low, high = found[name]["ci95"]
        return f"{found[name]['mean']:+.4f} [{low:+.4f}, {high:+.4f}]"

    return (
        f"Held-out nDCG@10 after {found['examples']:,} examples, {found['seeds']} paired seeds: "
        f"ours minus sentence-transformers' {difference('ours_minus_peer')}; "
        f"bfloat16 minus float32, both ours, {difference('bfloat16_minus_float32')}.\n"
    )


def filled(page: str, results: Mapping[str, Any]) -> str:
    """The page with the tables in their place."""
    return with_block(page, "training-speed", table(results))


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), results))
