"""Every tiny recipe from the command line -> seconds, and what the trained models gained or lost.

    python benchmarks/recipes/run.py [NAME ...] [--runs FOLDER] [--json FILE] [--fresh]
    python benchmarks/recipes/run.py --table   # writes the table of docs/systems.md

A cell is one recipe: ``gte run NAME`` in a process of its own. A cell whose settings and data are
the ones in the results file is not run again, so that the command can be stopped and started;
``--fresh`` runs all. Gains are paired differences of the same queries (or held-out texts) with 95 %
bootstrap intervals, as the stages themselves print them. A failed recipe is a row with its last
line, and exit status 1. CPU seconds are of one thread: what a machine that does nothing else takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opengte import atomic
from opengte.pipeline.recipe import bundled_recipes, load_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pages import with_block

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs/systems.md"
LIMIT_SECONDS = 90.0
Row = dict[str, Any]


def tiny_recipes() -> list[str]:
    """Names of the recipes that stand beside a paper-scale one."""
    return [name for name in bundled_recipes() if name.endswith("-tiny")]


def fingerprint(name: str) -> str:
    """Changes when the recipe does, or the files that it reads."""
    settings = load_recipe(name).model_dump(mode="json", exclude_defaults=True)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in sorted((ROOT / "examples/data").rglob("*")):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def run_cell(name: str, folder: Path) -> Row:
    """Run one recipe into an empty folder, and read what its stages say of themselves."""
    shutil.rmtree(folder, ignore_errors=True)
    mark = fingerprint(name)
    command = [sys.executable, "-m", "opengte", "run", name, "--out", str(folder)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row: Row = {
        "recipe": name,
        "fingerprint": mark,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "green": done.returncode == 0,
    }
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        return {**row, "error": lines[-1][:300].replace(str(ROOT), ".") if lines else ""}
    stages = [json.loads(file.read_text("utf-8")) for file in stage_files(name, folder)]
    return {
        **row,
        "peak_rss_mb": max(stage["peak_rss_mb"] for stage in stages),
        "stages": {stage["name"]: round(stage["seconds"], 1) for stage in stages},
        "gains": [gain for stage in stages for gain in gains(stage)],
    }


def stage_files(name: str, folder: Path) -> Iterator[Path]:
    """The records of a run's stages, in the order in which they ran."""
    for stage in load_recipe(name).stages:
        yield folder / "stages" / stage / "stage.json"


def gains(stage: dict[str, Any]) -> Iterator[Row]:
    """What a stage measured on texts that nothing was trained on, before and after."""
    facts = stage["facts"]
    for task, found in facts.get("differences", {}).items():
        yield {"stage": stage["name"], "on": task, **found}
    held_out = facts.get("held_out", {})
    if "before" in held_out:
        yield {
            "stage": stage["name"],
            "on": "held-out texts",
            "metric": "loss",
            "value": held_out["after"],
            "baseline": held_out["before"],
            **{key: held_out[key] for key in ("difference", "ci95")},
        }
    if "accuracy" in held_out:
        yield {
            "stage": stage["name"],
            "on": "held-out rows",
            "metric": "accuracy",
            "value": held_out["accuracy"],
            "baseline": held_out["largest_class"],
            **{key: held_out[key] for key in ("difference", "ci95")},
        }


def interval(gain: Row) -> str:
    """The difference, with its interval where the task has one (bitext has none)."""
    if gain["ci95"] is None:
        return f"{gain['difference']:+.3f}"
    return f"{gain['difference']:+.3f} [{gain['ci95'][0]:+.3f}, {gain['ci95'][1]:+.3f}]"


def describe(row: Row) -> str:
    """One line for the reader of the terminal."""
    if not row["green"]:
        return f"{row['recipe']:28} FAILED after {row['seconds']:.0f} s: {row['error']}"
    parts = [
        f"{gain['on']} {gain['metric']} {gain['baseline']:.3f} -> {gain['value']:.3f} "
        f"({interval(gain)})"
        for gain in row["gains"]
    ]
    return f"{row['recipe']:28} {row['seconds']:5.0f} s  " + "; ".join(parts)


def table(rows: list[Row]) -> str:
    """The results as Markdown, one line a measurement."""
    lines = [
        "| recipe | CPU seconds | measured on | metric | before | after | difference [95 %] |",
        "|---|---:|---|---|---:|---:|---|",
    ]
    for row in rows:
        name = f"`{row['recipe']}`"
        cells = [name, f"{row['cpu_seconds']:.0f}"]
        for gain in row.get("gains", []):
            values = [gain["on"], gain["metric"], f"{gain['baseline']:.3f}", f"{gain['value']:.3f}"]
            lines.append("| " + " | ".join([*cells, *values, interval(gain)]) + " |")
            cells = ["", ""]
        if not row["green"]:
            lines.append("| " + " | ".join([*cells, "failed", "", "", "", ""]) + " |")
    missing = sorted(set(tiny_recipes()) - {row["recipe"] for row in rows})
    if missing:
        lines += ["", "Not measured yet: " + ", ".join(f"`{name}`" for name in missing) + "."]
    return "\n".join(lines) + "\n"


def filled(page: str, rows: list[Row]) -> str:
    """The page with the table in its place."""
    return with_block(page, "results", f"\n{table(rows)}\n")


def read_rows(path: Path = RESULTS) -> list[Row]:
    """What was measured of recipes that are still there."""
    if not path.is_file():
        return []
    known = json.loads(path.read_text("utf-8"))["rows"]
    return [row for row in known if row["recipe"] in bundled_recipes()]


def main() -> int:
    """Run the cells that are missing; 1 where a recipe failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="recipes; all tiny ones by default")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/recipes")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--fresh", action="store_true", help="run what is in the results, too")
    parser.add_argument("--table", action="store_true", help="write the results into the page")
    options = parser.parse_args()
    rows: dict[str, Row] = {row["recipe"]: row for row in read_rows(options.json)}
    if options.table:
        atomic.write_text(PAGE, filled(PAGE.read_text("utf-8"), list(rows.values())))
        return 0
    wanted = options.names or tiny_recipes()
    for name in wanted:
        row = rows.get(name)
        done = row is not None and row["green"] and row["fingerprint"] == fingerprint(name)
        if not done or options.fresh:
            rows[name] = run_cell(name, options.runs / name)
            atomic.write_json(options.json, {**machine(), "rows": [rows[n] for n in sorted(rows)]})
        print(describe(rows[name]), flush=True)
    return 0 if all(rows[name]["green"] for name in wanted) else 1


def machine() -> Row:
    """What the seconds depend on."""
    import torch

    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "limit_seconds": LIMIT_SECONDS,
        "command": "python benchmarks/recipes/run.py",
    }


if __name__ == "__main__":
    sys.exit(main())
