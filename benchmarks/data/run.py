"""Batches from many sources: our store beside Hugging Face ``datasets``, in the same run.

    python benchmarks/data/run.py [--quick] [--json FILE] [--folder DIR]

1,000,000 made-up pairs in 30 JSONL files, batches of 16,384, both texts of every pair as Python
strings, one thread, CPU seconds, every measurement a process of its own, systems in turn.
``interleave_datasets`` is HF's streaming form; map-style is HF's memory-mapped form with random
rows. Ratios are medians over the rounds of ours over theirs, ours being the *slower* of two
mixtures: one source a batch, and all sources mixed row by row as the peers do.
Ours alone: a shard of a million rows named a hundred times (opening, first batch at step
10,000,000, memory, cost of a batch), and building from JSONL.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GOALS = {
    "pairs_vs_interleave": 50.0,
    "pairs_vs_mapstyle": 5.0,
    "build_pairs_per_cpu_second_over_100k": 1.0,
    "open_100M_second_over_ours": 1.0,
    "first_batch_100M_second_over_ours": 1.0,
    "memory_100M_300MB_over_ours": 1.0,
}
MEASURED = {"interleave_datasets": 9_500.0, "map-style": 126_000.0}  # pairs per CPU second
OURS = ("opengte one_source", "opengte mixed")

Row = dict[str, float | int | str]


def machine() -> dict[str, object]:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    return {
        "processor": names[0] if names else platform.processor(),
        "num_cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "pyarrow": version("pyarrow"),
        "datasets": version("datasets"),
        "load_before": os.getloadavg()[0],
    }


def commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def prepare(folder: Path) -> None:
    """Write the pairs, and the stores that the workers open."""
    from made_pairs import write_sources

    from opengte.data.build import build_store
    from opengte.data.manifest import Manifest

    paths = write_sources(folder / "jsonl", num_sources=30, num_pairs=1_000_000)
    if not (folder / "store").exists():
        build_store(paths, folder / "store", num_workers=1)
    if (folder / "hundred").exists():
        return
    whole = folder / "all.jsonl"
    with open(whole, "wb") as stream:
        for path in paths:
            stream.write(path.read_bytes())
    build_store([whole], folder / "one", num_workers=1, max_shard_bytes=1 << 30)
    whole.unlink()
    (folder / "hundred" / "shards").mkdir(parents=True)
    manifest = Manifest.read(folder / "one")
    entry = manifest.sources["all"]
    for shard in entry.shards:
        os.link(folder / "one" / shard.file, folder / "hundred" / shard.file)
    times = 100
    large = replace(
        entry,
        num_pairs=entry.num_pairs * times,
        num_matching=entry.num_matching * times,
        shards=entry.shards * times,
    )
    manifest.with_source("all", large).write(folder / "hundred")


def measure(name: str, folder: Path) -> Row:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_OFFLINE": "1"}
    environment["PYTHONPATH"] = f"{ROOT / 'src'}:{environment.get('PYTHONPATH', '')}"
    environment["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    command = [sys.executable, str(HERE / "worker.py"), name, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    row: Row = {"system": name, **json.loads(done.stdout.splitlines()[-1])}
    shown = ", ".join(f"{key} {value:,.4g}" for key, value in row.items() if key != "system")
    print(f"{name:22} {shown}", flush=True)
    return row


def median(rows: list[Row], name: str, field: str) -> float:
    return statistics.median(float(row[field]) for row in rows if row["system"] == name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round instead of five")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--folder", type=Path, help="keep the made-up pairs here")
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT / "src"), str(HERE)]
    where = machine()
    print(json.dumps(where))
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        prepare(folder)
        rows: list[Row] = []
        for _ in range(1 if arguments.quick else 5):
            for name in ("interleave_datasets", *OURS, "map-style"):
                rows.append(measure(name, folder))
        for name in ("opengte build", "opengte 1M rows", "opengte 100M rows"):
            rows.append(measure(name, folder))
    result = {"machine": where, "commit": commit(), **judged(rows), "rows": rows}
    for name, ratio in result["ratios"].items():
        print(f"{name:38} {ratio:8.2f}   (goal {GOALS.get(name, 'none')})")
    for warning in result["invalid"]:
        print(f"INVALID: {warning}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def judged(rows: list[Row]) -> dict[str, object]:
    """Ratios, all oriented so that more is better, and what makes the run worthless."""
    speed = "pairs_per_cpu_second"
    ours = min(median(rows, name, speed) for name in OURS)
    far, near = "opengte 100M rows", "opengte 1M rows"
    ratios = {
        "pairs_vs_interleave": ours / median(rows, "interleave_datasets", speed),
        "pairs_vs_mapstyle": ours / median(rows, "map-style", speed),
        "build_pairs_per_cpu_second_over_100k": median(rows, "opengte build", speed) / 1e5,
        "open_100M_second_over_ours": 1 / median(rows, far, "open_seconds"),
        "first_batch_100M_second_over_ours": 1 / median(rows, far, "first_batch_seconds"),
        "memory_100M_300MB_over_ours": 300 / median(rows, far, "process_private_mib"),
        "batch_cost_1M_over_100M": median(rows, near, "batch_cpu_seconds")
        / median(rows, far, "batch_cpu_seconds"),
    }
    invalid = [
        f"{peer} ran at {median(rows, peer, speed):,.0f} pairs per CPU second, more than 20 % "
        f"below the {known:,.0f} measured before: the machine is too busy"
        for peer, known in MEASURED.items()
        if median(rows, peer, speed) < 0.8 * known
    ]
    rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
    return {"ratios": rounded, "goals": GOALS, "invalid": invalid}


if __name__ == "__main__":
    main()
