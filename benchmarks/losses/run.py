"""The contrastive loss alone, in GTE's form: dense against tiled, in time and in memory.

    python benchmarks/losses/run.py [--quick] [--json FILE]

384 dimensions, one thread, temperature 0.01, value and gradient, CPU seconds; every measurement
is a process of its own, and the systems alternate. Dense is ``improved_contrastive_loss``: three
products for four blocks and a log-sum-exp for each, plain torch operations.
sentence-transformers' loss of the same form, which makes four products and a copy of all four
blocks side by side, stands beside it outside ``--quick``. Ratios are medians of dense over ours.
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

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SIZE = 16_384
DENSE, EXACT, BFLOAT16 = "dense float32", "tiled float32", "tiled bfloat16"
PEER = "sentence-transformers float32"
GOALS = {"loss_time_fp32": 1.1, "loss_time_bf16": 2.2, "loss_memory": 10.0}

Row = dict[str, float | int | str]


def machine() -> dict[str, object]:
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


def measure(name: str, size: int) -> Row:
    """Run one system once in a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{ROOT / 'src'}:{environment.get('PYTHONPATH', '')}"
    command = [sys.executable, str(HERE / "worker.py"), name, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    row: Row = {"system": name, "pairs": size, **json.loads(done.stdout)}
    print(
        f"{name:32} {size:7} {row['cpu_seconds']:8.2f} s {row['extra_mib']:8.0f} MiB more, "
        f"{row['total_mib']:6.0f} in all, loss {row['loss']:.6f}",
        flush=True,
    )
    return row


def median(rows: Iterable[Row], name: str, size: int, field: str) -> float:
    found = [float(r[field]) for r in rows if r["system"] == name and r["pairs"] == size]
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round at 16,384 pairs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    where = machine()
    print(json.dumps(where))
    rows = [
        measure(name, SIZE)
        for _ in range(1 if arguments.quick else 3)
        for name in (DENSE, EXACT, BFLOAT16)
    ]
    if not arguments.quick:
        rows += [measure(name, 8192) for name in (DENSE, PEER, EXACT, BFLOAT16)]
        rows += [measure(name, 65_536) for name in (EXACT, BFLOAT16)]
    dense, exact = (median(rows, name, SIZE, "cpu_seconds") for name in (DENSE, EXACT))
    ratios = {
        "loss_time_fp32": dense / exact,
        "loss_memory": median(rows, DENSE, SIZE, "extra_mib")
        / median(rows, EXACT, SIZE, "extra_mib"),
    }
    if {"avx512_bf16", "amx_bf16"} & set(where["units"]):
        ratios["loss_time_bf16"] = dense / median(rows, BFLOAT16, SIZE, "cpu_seconds")
    goals = {name: goal for name, goal in GOALS.items() if name in ratios}
    for name, ratio in ratios.items():
        print(f"{name:16} {ratio:6.2f}   (goal {goals[name]})")
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
