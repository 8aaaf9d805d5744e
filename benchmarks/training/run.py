"""Training steps of sentence-transformers' trainer and of ours, on the same batches.

    python benchmarks/training/run.py [--quick] [--json FILE] [--seeds N]

all-MiniLM-L6-v2, GTE's joint loss at temperature 0.01, length 128, one thread. Both systems get
the same batches, grouped by length, so that padding is what their own collators leave. The peer
runs its trainer with fused AdamW (its default) in bfloat16 and float32; dropout 0 and 0.1, of
attention probabilities too. Every measurement is a process of its own; systems alternate; ratios
are medians. CPU seconds decide, since on a shared machine wall time says little.

``--quick`` measures batch 64 at dropout 0.1. Without it also dropout 0, and one step at 1,024
and 4,096 pairs with gradient caching on both sides. On a machine with a GPU, ``run_gpu.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS, PEER = "opengte", "sentence-transformers"
WITH_AMX = {"tokens_vs_st_bf16": 2.0, "tokens_vs_st_fp32": 4.0, "memory_vs_st_bf16": 1.33}
WITHOUT_AMX = {"tokens_vs_st_fp32_fp32": 1.4}
PEER_REFERENCE = {"tokens_per_cpu_second": {"float32": 737, "bfloat16": 1440}}
"""Of sentence-transformers 6.2 on a 2-core Xeon with AMX (design/measured.md, section 1)."""

Row = dict[str, Any]


def machine() -> Row:
    """What the figures depend on."""
    facts = dict(
        line.split(":", 1)
        for line in _read("/proc/cpuinfo").split("\n\n")[0].splitlines()
        if ":" in line
    )
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    return {
        "processor": facts.get("model name", platform.processor()),
        "family_model": f"{facts.get('cpu family')}/{facts.get('model')}",
        "units": [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags],
        "num_cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "torch": version("torch"),
        "sentence_transformers": version("sentence-transformers"),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def measure(system: str, precision: str, **settings: Any) -> Row:
    """One system, a few steps, in a fresh process."""
    job = {
        "system": system,
        "precision": precision,
        "batch_size": 64,
        "max_tokens": 128,
        "dropout": 0.1,
        "gradient_cache": "never",
        "threads": 1,
        "steps": 3,
        "warmup_steps": 1,
        **settings,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{ROOT / 'src'}:{environment.get('PYTHONPATH', '')}"
    command = [sys.executable, str(HERE / "worker.py"), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{system}, {precision}: {done.stderr[-2000:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{system:22} {precision:9} batch {row['batch_size']:5} dropout {row['dropout']:<4}"
        f"{row['tokens_per_cpu_second']:8.0f} tokens/cpu-s {row['pairs_per_cpu_second']:6.1f} "
        f"pairs/cpu-s {row['peak_mib']:7.0f} MiB",
        flush=True,
    )
    return row


def alternate(rounds: int, **settings: Any) -> list[Row]:
    """Every system in every precision, in turns."""
    return [
        measure(system, precision, **settings)
        for _ in range(rounds)
        for precision in ("float32", "bfloat16")
        for system in (PEER, OURS)
    ]


def median(rows: Iterable[Row], field: str, **wanted: Any) -> float:
    """Of the rows that have the wanted values."""
    found = [float(r[field]) for r in rows if all(r[k] == v for k, v in wanted.items())]
    return statistics.median(found)


def ratios_of(rows: list[Row], *, dropout: float, units: list[str]) -> dict[str, float]:
    """Ours over the peer's (speed), the peer's over ours (memory): more is better."""

    def of(system: str, precision: str, field: str = "tokens_per_cpu_second") -> float:
        common = {"batch_size": 64, "dropout": dropout}
        return median(rows, field, system=system, precision=precision, **common)

    name = "" if dropout else "_dropout_0"
    found = {f"tokens_vs_st_fp32_fp32{name}": of(OURS, "float32") / of(PEER, "float32")}
    if {"avx512_bf16", "amx_bf16"} & set(units):
        found |= {
            f"tokens_vs_st_bf16{name}": of(OURS, "bfloat16") / of(PEER, "bfloat16"),
            f"tokens_vs_st_fp32{name}": of(OURS, "bfloat16") / of(PEER, "float32"),
            f"memory_vs_st_bf16{name}": of(PEER, "bfloat16", "peak_mib")
            / of(OURS, "bfloat16", "peak_mib"),
        }
    return found


def large_batches() -> list[Row]:
    """One cached step each; the warm-up step is of the same size, so it is left out here."""
    common = {"gradient_cache": "always", "steps": 1, "warmup_steps": 0}
    return [
        measure(system, "bfloat16", batch_size=size, **common)
        for size in (1024, 4096)
        for system in (PEER, OURS)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch 64, dropout 0.1, one round")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    where = machine()
    print(json.dumps(where))
    rows = alternate(1 if arguments.quick else 3)
    ratios = ratios_of(rows, dropout=0.1, units=where["units"])
    if not arguments.quick:
        rows += alternate(3, dropout=0.0)
        ratios |= ratios_of(rows, dropout=0.0, units=where["units"])
        large = large_batches()
        for size in (1024, 4096):
            ours, peer = (
                next(r for r in large if r["system"] == s and r["batch_size"] == size)
                for s in (OURS, PEER)
            )
            speed = ours["tokens_per_cpu_second"] / peer["tokens_per_cpu_second"]
            ratios[f"tokens_vs_st_cached_{size}"] = speed
            ratios[f"memory_vs_st_cached_{size}"] = peer["peak_mib"] / ours["peak_mib"]
        rows += large
    goals = WITH_AMX if "amx_bf16" in where["units"] else WITHOUT_AMX
    goals = {name: goal for name, goal in goals.items() if name in ratios}
    for name, ratio in ratios.items():
        print(f"{name:34} {ratio:6.2f}" + (f"   (goal {goals[name]})" if name in goals else ""))
    result = {
        "machine": where,
        "commit": commit(),
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "goals": goals,
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
