"""The contrastive loss alone, in GTE's form: dense against tiled, in time and in memory.

    python benchmarks/losses/run.py [--quick] [--json FILE] [--minutes N]

384 dimensions, one thread, temperature 0.01, value and gradient, CPU seconds; every measurement
is a process of its own, and the systems alternate. Dense is ``improved_contrastive_loss``: three
products for four blocks and a log-sum-exp for each, plain torch operations. Outside ``--quick``
there stand beside it:

- the same with powers of two, since on processors that are not Intel's torch's ``exp`` takes
  MKL's slow path and most of the dense loss's time: what is left of a ratio without that;
- sentence-transformers' loss of the same form, which makes four products and a copy of all four
  blocks side by side (at 8,192 pairs: it needs 14 GB for 16,384).

Ratios are medians of dense over ours. What was measured is kept beside the JSON file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cells import GO_ON, Cells, OutOfTimeError, Row, machine, run_worker, write_results  # noqa: E402

CODE = ("src/opengte/losses", "benchmarks/losses")
SIZE, SMALL, LARGE = 16_384, 8_192, 65_536
DENSE, EXACT, BFLOAT16 = "dense float32", "tiled float32", "tiled bfloat16"
POWERS_OF_TWO = "dense float32, powers of two"
PEER = "sentence-transformers float32"
GOALS = {
    "loss_time_fp32": 1.1,
    "loss_time_bf16": 2.2,
    "loss_memory": 10.0,
    "loss_memory_65536_under_1_gb": 1.0,
}
REFERENCE = {DENSE: 7.12, EXACT: 5.74, BFLOAT16: 2.87}
"""CPU seconds at 16,384 pairs on a 2-core Xeon with AMX, of a prototype: other hardware."""


def measurements(*, quick: bool) -> Iterator[tuple[str, int, int]]:
    """System, pairs and round of every measurement, in order."""
    for number in range(1 if quick else 3):
        for name in (DENSE, EXACT, BFLOAT16) if quick else (DENSE, POWERS_OF_TWO, EXACT, BFLOAT16):
            yield name, SIZE, number
    if not quick:
        for name in (DENSE, POWERS_OF_TWO, PEER, EXACT, BFLOAT16):
            yield name, SMALL, 0
        for name in (EXACT, BFLOAT16):
            yield name, LARGE, 0


def measure(name: str, size: int) -> Row:
    """Run one system once in a fresh process."""
    row = run_worker(HERE / "worker.py", name, str(size), name=name)
    print(
        f"{name:32} {size:7} {row['cpu_seconds']:8.2f} s {row['extra_mib']:8.0f} MiB more, "
        f"{row['total_mib']:6.0f} in all, loss {row['loss']:.6f}",
        flush=True,
    )
    return {"system": name, "pairs": size, **row}


def median(rows: Iterable[Row], name: str, size: int, field: str) -> float:
    found = [float(r[field]) for r in rows if r["system"] == name and r["pairs"] == size]
    return statistics.median(found)


def ratios_of(rows: list[Row], *, has_bfloat16: bool, quick: bool) -> dict[str, float]:
    """Dense over ours in time and memory: more is better."""

    def seconds(name: str, size: int = SIZE) -> float:
        return median(rows, name, size, "cpu_seconds")

    def extra(name: str) -> float:
        return median(rows, name, SIZE, "extra_mib")

    ratios = {
        "loss_time_fp32": seconds(DENSE) / seconds(EXACT),
        "loss_memory": extra(DENSE) / extra(EXACT),
    }
    if has_bfloat16:
        ratios["loss_time_bf16"] = seconds(DENSE) / seconds(BFLOAT16)
    if quick:
        return ratios
    ratios["loss_memory_65536_under_1_gb"] = 1e9 / 2**20 / median(rows, EXACT, LARGE, "extra_mib")
    ratios["loss_time_fp32_powers_of_two"] = seconds(POWERS_OF_TWO) / seconds(EXACT)
    ratios["loss_time_fp32_vs_st_8192"] = seconds(PEER, SMALL) / seconds(EXACT, SMALL)
    if has_bfloat16:
        ratios["loss_time_bf16_powers_of_two"] = seconds(POWERS_OF_TWO) / seconds(BFLOAT16)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round at 16,384 pairs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many minutes")
    arguments = parser.parse_args()
    where = machine("torch", "sentence-transformers")
    print(json.dumps(where))
    kept = arguments.json.with_suffix(".cells.jsonl") if arguments.json else None
    cells = Cells(kept, minutes=arguments.minutes, code=CODE)
    rows = []
    for name, size, number in measurements(quick=arguments.quick):
        settings = {"system": name, "pairs": size, "round": number}
        try:
            rows.append(cells.measure(settings, lambda name=name, size=size: measure(name, size)))
        except OutOfTimeError:
            sys.exit(GO_ON)
    has_bfloat16 = bool({"avx512_bf16", "amx_bf16"} & set(where["units"]))
    ratios = ratios_of(rows, has_bfloat16=has_bfloat16, quick=arguments.quick)
    goals = {name: goal for name, goal in GOALS.items() if name in ratios}
    reference = {"cpu_seconds_elsewhere": REFERENCE}
    write_results(arguments.json, where, ratios=ratios, goals=goals, rows=rows, **reference)


if __name__ == "__main__":
    main()
