"""Training steps of sentence-transformers' trainer and of ours, on the same batches.

    python benchmarks/training/run.py [--quick] [--json FILE] [--minutes N]

all-MiniLM-L6-v2, GTE's joint loss at temperature 0.01, length 128, one thread. Both systems get
the same batches, grouped by length, so that padding is what their own collators leave. The peer
runs its trainer with fused AdamW (its default) in bfloat16 and float32; dropout 0 and 0.1, of
attention probabilities too. Every measurement is a process of its own; systems alternate; ratios
are medians. CPU seconds decide, since on a shared machine wall time says little.

``--quick`` measures batch 64 at dropout 0.1. Without it also

- dropout 0;
- one step at 1,024 and at 4,096 pairs with gradient caching on both sides, each system in the
  precision in which it was faster at batch 64;
- held-out nDCG@10 after equal examples, over three paired seeds: the peer, ours in the same
  precision, and ours in the other one.

What was measured is kept beside the JSON file; a turn that ends early (``--minutes``) writes what
there is, and names the parts that are missing. On a machine with a GPU, ``run_gpu.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cells import GO_ON, Cells, OutOfTimeError, Row, machine, run_worker, write_results  # noqa: E402

CODE = ("src/opengte/training", "src/opengte/models", "src/opengte/losses", "benchmarks/training")
OURS, PEER = "opengte", "sentence-transformers"
PRECISIONS = ("float32", "bfloat16")
ROUNDS = 3
SEEDS = 3
LARGE = (1024, 4096)
WITH_AMX = {"tokens_vs_st_bf16": 2.0, "tokens_vs_st_fp32": 4.0, "memory_vs_st_bf16": 1.33}
WITHOUT_AMX = {"tokens_vs_st_fp32_fp32": 1.4}
ANYWHERE = {"memory_4096_under_4_gib": 1.0}
PEER_REFERENCE = {"tokens_per_cpu_second": {"float32": 737, "bfloat16": 1440}}
"""Of sentence-transformers 6.2 on a 2-core Xeon with AMX, at dropout 0.1: other hardware."""
STANDARD: Mapping[str, Any] = {
    "batch_size": 64,
    "max_tokens": 128,
    "dropout": 0.1,
    "gradient_cache": "never",
    "threads": 1,
    "steps": 3,
    "warmup_steps": 1,
}
QUALITY: Mapping[str, Any] = {"steps": 24, "warmup_steps": 0, "evaluate": True}


class Benchmark:
    """Measurements that are made, or read, in order."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.rows: list[Row] = []

    def measure(self, system: str, precision: str, *, round: int = 0, **settings: Any) -> Row:
        """One system, a few steps, in a fresh process."""
        job = {"system": system, "precision": precision, **STANDARD, **settings}
        row = self.cells.measure({**job, "round": round}, lambda: self._run(job))
        self.rows.append(row)
        return row

    def _run(self, job: Row) -> Row:
        name = f"{job['system']}, {job['precision']}"
        row = run_worker(HERE / "worker.py", json.dumps(job), name=name)
        print(
            f"{row['system']:22} {row['precision']:9} batch {row['batch_size']:5} "
            f"dropout {row['dropout']:<4}{row['tokens_per_cpu_second']:8.0f} tokens/cpu-s "
            f"{row['pairs_per_cpu_second']:6.1f} pairs/cpu-s {row['peak_mib']:7.0f} MiB"
            + (f"  nDCG@10 {row['ndcg@10']:.4f}" if "ndcg@10" in row else ""),
            flush=True,
        )
        return row

    def alternate(self, *, round: int, **settings: Any) -> None:
        """Every system in every precision, in turns."""
        for precision in PRECISIONS:
            for system in (PEER, OURS):
                self.measure(system, precision, round=round, **settings)

    def fastest_precision(self, system: str) -> str:
        """By the rows at batch 64 and dropout 0.1."""
        return max(PRECISIONS, key=lambda p: self.speed(system, p))

    def speed(self, system: str, precision: str, *, dropout: float = 0.1) -> float:
        """Useful tokens per CPU second at batch 64."""
        return self.median("tokens_per_cpu_second", system, precision, dropout)

    def median(self, field: str, system: str, precision: str, dropout: float) -> float:
        """Of the short runs at batch 64."""
        wanted = {
            "system": system,
            "precision": precision,
            "dropout": dropout,
            "batch_size": 64,
            "steps": STANDARD["steps"],
        }
        return statistics.median(
            float(row[field])
            for row in self.rows
            if all(row[name] == value for name, value in wanted.items())
        )


def small_ratios(bench: Benchmark, *, dropout: float, has_bfloat16: bool) -> dict[str, float]:
    """Ours over the peer's (speed), the peer's over ours (memory): more is better."""

    def speed(system: str, precision: str) -> float:
        return bench.speed(system, precision, dropout=dropout)

    def memory(precision: str) -> float:
        peer, ours = (bench.median("peak_mib", s, precision, dropout) for s in (PEER, OURS))
        return peer / ours

    name = "" if dropout else "_dropout_0"
    found = {
        f"tokens_vs_st_fp32_fp32{name}": speed(OURS, "float32") / speed(PEER, "float32"),
        f"memory_vs_st_fp32{name}": memory("float32"),
    }
    if has_bfloat16:
        found |= {
            f"tokens_vs_st_bf16{name}": speed(OURS, "bfloat16") / speed(PEER, "bfloat16"),
            f"tokens_vs_st_fp32{name}": speed(OURS, "bfloat16") / speed(PEER, "float32"),
            f"memory_vs_st_bf16{name}": memory("bfloat16"),
        }
    return found


def large_rows(bench: Benchmark, system: str) -> list[Row]:
    """One cached step each; a warm-up step would be of the same size, so there is none."""
    common = {"gradient_cache": "always", "steps": 1, "warmup_steps": 0}
    precision = bench.fastest_precision(system)
    return [bench.measure(system, precision, batch_size=size, **common) for size in LARGE]


def large_ratios(bench: Benchmark) -> dict[str, float]:
    """Of the cached steps, both systems in their faster precision."""
    ratios = {}
    for ours, peer in zip(large_rows(bench, OURS), large_rows(bench, PEER), strict=True):
        size, field = ours["batch_size"], "tokens_per_cpu_second"
        ratios[f"tokens_vs_st_cached_{size}"] = ours[field] / peer[field]
        ratios[f"memory_vs_st_cached_{size}"] = peer["peak_mib"] / ours["peak_mib"]
    return ratios


def quality(bench: Benchmark) -> Row:
    """Held-out nDCG@10 after equal examples: differences to the peer, with 95 % intervals."""
    from opengte.metrics.bootstrap import paired_difference

    precision = bench.fastest_precision(PEER)
    other = next(p for p in PRECISIONS if p != precision)
    arms = {
        "peer": (PEER, precision),
        "ours": (OURS, precision),
        "ours_other_precision": (OURS, other),
    }
    per_query: dict[str, list[list[float]]] = {arm: [] for arm in arms}
    for seed in range(SEEDS):
        for arm, (system, kind) in arms.items():
            row = bench.measure(system, kind, seed=seed, **QUALITY)
            per_query[arm].append(row["per_query"])
    base = bench.measure(OURS, "float32", seed=0, **{**QUALITY, "steps": 0})
    found: Row = {"metric": "ndcg@10", "seeds": SEEDS, "examples": 64 * QUALITY["steps"]}
    found["base"] = base["ndcg@10"]
    for arm, values in per_query.items():
        found[arm] = {
            "system": arms[arm][0],
            "precision": arms[arm][1],
            "seeds": [round(statistics.fmean(v), 4) for v in values],
        }
    for name, (a, b) in {
        "ours_minus_peer": ("ours", "peer"),
        "bfloat16_minus_float32": (
            ("ours", "ours_other_precision")
            if precision == "bfloat16"
            else ("ours_other_precision", "ours")
        ),
    }.items():
        interval = paired_difference(per_query[a], per_query[b])
        found[name] = {
            "mean": round(interval.mean, 5),
            "ci95": [round(interval.low, 5), round(interval.high, 5)],
        }
        print(f"nDCG@10 {name}: {found[name]}")
    return found


def without_lists(rows: Iterable[Row]) -> list[Row]:
    """Rows as they are published: without a value for every query."""
    return [{k: v for k, v in row.items() if k != "per_query"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch 64, dropout 0.1, one round")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many minutes")
    arguments = parser.parse_args()
    where = machine("torch", "sentence-transformers")
    print(json.dumps(where))
    kept = arguments.json.with_suffix(".cells.jsonl") if arguments.json else None
    bench = Benchmark(Cells(kept, minutes=arguments.minutes, code=CODE))
    has_bfloat16 = bool({"avx512_bf16", "amx_bf16"} & set(where["units"]))
    ratios: dict[str, float] = {}
    more: Row = {"peer_elsewhere": PEER_REFERENCE, "missing": ["everything"]}
    try:
        for part in parts(quick=arguments.quick, has_bfloat16=has_bfloat16):
            more["missing"] = [part.__name__]
            found = part(bench)
            more |= found.pop("more", {})
            ratios |= found
        more["missing"] = []
    except OutOfTimeError:
        more["missing"].append("what comes after it")
    goals = {**(WITH_AMX if "amx_bf16" in where["units"] else WITHOUT_AMX), **ANYWHERE}
    goals = {name: goal for name, goal in goals.items() if name in ratios}
    rows = without_lists(bench.rows)
    write_results(arguments.json, where, ratios=ratios, goals=goals, rows=rows, **more)
    sys.exit(GO_ON if more["missing"] else 0)


def parts(*, quick: bool, has_bfloat16: bool) -> Iterator[Callable[[Benchmark], Row]]:
    """The parts of the benchmark, what matters most first; each gives ratios."""

    def first_round(bench: Benchmark) -> Row:
        bench.alternate(round=0)
        return small_ratios(bench, dropout=0.1, has_bfloat16=has_bfloat16)

    def first_round_without_dropout(bench: Benchmark) -> Row:
        bench.alternate(round=0, dropout=0.0)
        return small_ratios(bench, dropout=0.0, has_bfloat16=has_bfloat16)

    def our_large_batches(bench: Benchmark) -> Row:
        return {"memory_4096_under_4_gib": 4096 / large_rows(bench, OURS)[-1]["peak_mib"]}

    def held_out(bench: Benchmark) -> Row:
        return {"more": {"quality": quality(bench)}}

    def later_rounds(bench: Benchmark) -> Row:
        ratios: Row = {}
        for dropout in (0.1, 0.0):
            for number in range(1, ROUNDS):
                bench.alternate(round=number, dropout=dropout)
            ratios |= small_ratios(bench, dropout=dropout, has_bfloat16=has_bfloat16)
        return ratios

    yield first_round
    if not quick:
        yield first_round_without_dropout
        yield our_large_batches
        yield held_out
        yield later_rounds
        yield large_ratios


if __name__ == "__main__":
    main()
