"""Batches from many sources: our store beside Hugging Face ``datasets``, in the same run.

    python benchmarks/data/run.py [--quick] [--json FILE] [--minutes M] [--folder DIR]

1,000,000 made-up pairs in 30 JSONL files, batches of 16,384, both texts of every pair as Python
strings, one thread, CPU seconds, every measurement a process of its own, systems in turn.
``interleave_datasets`` is HF's streaming form; map-style is HF's memory-mapped form with random
rows. Ratios are medians over the rounds of ours over theirs, ours being the *slower* of two
mixtures: one source a batch, and all sources mixed row by row as the peers do.
Ours alone: a shard of a million rows named a hundred times (opening, first batch at step
10,000,000, memory, cost of a batch), and building from JSONL. A million rows are measured in one
shard and in about a hundred, to tell what the rows cost from what the shards do.

``--quick`` is one round instead of five. With ``--json`` every measurement is kept beside the
file, and a turn of ``--minutes`` that ends early goes on by the same command.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cells import (
    GO_ON,
    ROOT,
    Cells,
    OutOfTimeError,
    Row,
    machine,
    run_worker,
    write_results,
)

HERE = Path(__file__).resolve().parent
CODE = ("src/opengte/data", "benchmarks/data")
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
SYSTEMS = ("interleave_datasets", *OURS, "map-style")
ALONE = ("opengte build", "opengte 1M rows", "opengte 1M rows, 100 shards", "opengte 100M rows")
SPEED = "pairs_per_cpu_second"


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
    build_store([whole], folder / "pieces", num_workers=1, max_shard_bytes=5 << 20)
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
    os.environ.update(HF_DATASETS_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
    load = os.getloadavg()[0]
    row: Row = {"system": name, "load_before": round(load, 2)}
    row.update(run_worker(HERE / "worker.py", name, str(folder), name=name))
    shown = ", ".join(f"{key} {value:,.4g}" for key, value in row.items() if key != "system")
    print(f"{name:22} {shown}", flush=True)
    return row


def median(rows: list[Row], name: str, field: str) -> float:
    values = [float(row[field]) for row in rows if row["system"] == name]
    return statistics.median(values) if values else float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round instead of five")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--minutes", type=float, help="begin no measurement after so many")
    parser.add_argument("--folder", type=Path, help="keep the made-up pairs here")
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT / "src"), str(HERE)]
    kept = arguments.json.with_suffix(".cells.jsonl") if arguments.json else None
    cells = Cells(kept, minutes=arguments.minutes, code=CODE)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        prepare(folder)
        try:
            for settings in wanted(1 if arguments.quick else 5):
                name = str(settings["system"])
                rows.append(cells.measure(settings, lambda name=name: measure(name, folder)))
        except OutOfTimeError:
            if any(median(rows, name, SPEED) != median(rows, name, SPEED) for name in SYSTEMS):
                return GO_ON
    where = machine("pyarrow", "datasets", "numpy")
    ratios, invalid = judged(rows)
    for warning in invalid:
        print(f"INVALID: {warning}")
    rounds = sum(row["system"] == "map-style" for row in rows)
    write_results(
        arguments.json, where, ratios=ratios, goals=GOALS, rows=rows, rounds=rounds, invalid=invalid
    )
    return 0 if rounds == (1 if arguments.quick else 5) else GO_ON


def wanted(rounds: int) -> list[Row]:
    """Ours alone first, then the systems in turn."""
    alone: list[Row] = [{"system": name, "round": i} for i in range(rounds) for name in ALONE]
    return alone + [{"system": name, "round": i} for i in range(rounds) for name in SYSTEMS]


def judged(rows: list[Row]) -> tuple[dict[str, float], list[str]]:
    """Ratios, all oriented so that more is better, and what makes the run worthless."""
    ours = min(median(rows, name, SPEED) for name in OURS)
    near, pieces, far = ALONE[1:]
    ratios = {
        "pairs_vs_interleave": ours / median(rows, "interleave_datasets", SPEED),
        "pairs_vs_mapstyle": ours / median(rows, "map-style", SPEED),
        "build_pairs_per_cpu_second_over_100k": median(rows, "opengte build", SPEED) / 1e5,
        "open_100M_second_over_ours": 1 / median(rows, far, "open_seconds"),
        "first_batch_100M_second_over_ours": 1 / median(rows, far, "first_batch_seconds"),
        "memory_100M_300MB_over_ours": 300 / median(rows, far, "process_private_mib"),
        "batch_cost_1M_over_100M": median(rows, near, "batch_cpu_seconds")
        / median(rows, far, "batch_cpu_seconds"),
        "batch_cost_1M_over_100M_as_many_shards": median(rows, pieces, "batch_cpu_seconds")
        / median(rows, far, "batch_cpu_seconds"),
    }
    invalid = [
        f"{peer} ran at {median(rows, peer, SPEED):,.0f} pairs per CPU second, more than 20 % "
        f"below the {known:,.0f} measured before: the machine is too busy"
        for peer, known in MEASURED.items()
        if median(rows, peer, SPEED) < 0.8 * known
    ]
    return ratios, invalid


if __name__ == "__main__":
    sys.exit(main())
