"""Everything that a CUDA device must show, in less than nine minutes: ``make gpu``.

    python benchmarks/gpu/run.py [--json FILE] [--minutes 8.5] [--dry-run]

1. The equivalences of ``tests/gpu``.
2. Training a BERT-base with random weights in bfloat16: useful tokens a second against
   sentence-transformers, with the lengths of real texts and with all texts of 128 tokens, at
   dropout 0 and 0.1; for the full texts also the share of the matrix peak measured here.
3. The loss alone at 16,384 and 65,536 pairs: dense, tiled, and by the Triton kernels.

The peer is its model and its loss in a plain loop (autocast, fused AdamW, scaled-dot-product
attention), which is what its trainer does without the trainer's own cost. Needs no data and no
downloads. Every part is a process of its own; the file is written after each, and names the
parts that are missing. Without a CUDA device it says so and ends well; ``--dry-run`` goes through
the same code on a processor with tiny sizes, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from cells import Row, commit, machine  # noqa: E402

OURS, PEER = "opengte", "sentence-transformers"
GOALS = {"tokens_vs_st_gpu": 2.0, "share_of_matrix_peak": 0.4}
FULL: Mapping[str, Any] = {
    "shape": {"hidden": 768, "layers": 12},
    "num_words": 30_000,
    "max_tokens": 128,
    "batch_size": 512,
    "micro_batch_tokens": 65_536,
    "precision": "bfloat16",
    "steps": 12,
    "warmup_steps": 4,
}
TINY: Mapping[str, Any] = {
    **FULL,
    "shape": {"hidden": 64, "layers": 1},
    "num_words": 50,
    "max_tokens": 16,
    "batch_size": 4,
    "steps": 2,
    "warmup_steps": 2,
}


def parts(*, dry_run: bool) -> Iterator[tuple[str, Row]]:
    """Part and settings, what matters most first."""
    yield "matrix_peak", {"size": 64 if dry_run else 8192, "rounds": 4 if dry_run else 30}
    sizes = TINY if dry_run else FULL
    for dropout in (0.0, 0.1):
        for lengths in ("full", "mixed"):
            for system in (OURS, PEER):
                yield (
                    "training",
                    {**sizes, "system": system, "lengths": lengths, "dropout": dropout},
                )
    ways = ("dense", "torch exact", "torch bfloat16", "triton exact", "triton bfloat16")
    for pairs in (64, 96) if dry_run else (16_384, 65_536):
        for way in ways:
            # 65,536 pairs take 69 GB a copy when all is held at once; kernels need a GPU.
            if (way == "dense" and pairs == 65_536) or (dry_run and way.startswith("triton")):
                continue
            dimensions = 8 if dry_run else 384
            yield "loss", {"way": way, "pairs": pairs, "dimensions": dimensions, "rounds": 5}


class Session:
    """What was measured, until the time is over.

    Args:
        path: the results file; None prints alone.
        minutes: after which nothing is begun, and what runs is ended.
        device: cuda, or cpu in a dry run.
    """

    def __init__(self, path: Path | None, minutes: float, device: str) -> None:
        self.path, self.device = path, device
        self.ends = time.monotonic() + 60 * minutes
        self.rows: list[Row] = []
        self.missing: list[str] = []
        self.tests: Row = {}

    def call(self, name: str, command: list[str], **variables: str) -> str | None:
        """What a program printed; None where it failed or the time was over."""
        left = self.ends - time.monotonic()
        source = f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}"
        environment = {**os.environ, "PYTHONPATH": source, **variables}
        try:
            done = subprocess.run(
                [sys.executable, *command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=max(left, 0.01),
                check=False,
                cwd=ROOT,
            )
        except subprocess.TimeoutExpired:
            self.missing.append(f"{name}: no time was left")
            return None
        if done.returncode:
            self.missing.append(f"{name}: {(done.stdout + done.stderr)[-1500:]}")
            return None
        return done.stdout

    def measure(self, part: str, settings: Row) -> None:
        """Run one part of the worker."""
        told = json.dumps({**settings, "device": self.device})
        name = f"{part} {json.dumps(settings)}"
        output = self.call(name, [str(HERE / "worker.py"), part, told])
        if output is not None:
            self.rows.append({"part": part, **settings, **json.loads(output.splitlines()[-1])})
            print(json.dumps(self.rows[-1]), flush=True)
        else:
            print(f"missing: {self.missing[-1]}", flush=True)
        self.write()

    def check(self) -> None:
        """Run the equivalence tests."""
        program = ["-m", "pytest", "-q", "-m", "gpu", "-o", "addopts=--import-mode=importlib"]
        output = self.call(
            "equivalences", [*program, "tests/gpu"], OPENGTE_GPU_TESTS_DEVICE=self.device
        )
        last = (output or self.missing[-1]).strip().splitlines()[-1]
        self.tests = {"passed": output is not None, "summary": last}
        print(f"equivalences: {last}", flush=True)
        self.write()

    def ratios(self) -> dict[str, float]:
        """Ours over the peer's; the share of the peak; dense over ours. More is better."""
        found = {}
        for dropout, name in ((0.0, "_dropout_0"), (0.1, "")):
            for lengths in ("mixed", "full"):
                common = {"part": "training", "dropout": dropout, "lengths": lengths}
                ours, peer = (self._row(system=s, **common) for s in (OURS, PEER))
                if ours and peer:
                    ratio = ours["tokens_per_second"] / peer["tokens_per_second"]
                    suffix = "" if lengths == "mixed" else "_full_texts"
                    found[f"tokens_vs_st_gpu{suffix}{name}"] = ratio
                peak = self._row(part="matrix_peak")
                if ours and peak and lengths == "full":
                    found[f"share_of_matrix_peak{name}"] = ours["tflops"] / peak["tflops"]
        dense = self._row(part="loss", way="dense", pairs=16_384)
        for row in self.rows:
            if dense and row["part"] == "loss" and row["pairs"] == 16_384:
                name = row["way"].replace(" ", "_")
                found[f"loss_time_{name}"] = dense["seconds"] / row["seconds"]
                found[f"loss_memory_{name}"] = dense["extra_mib"] / max(row["extra_mib"], 1e-9)
        return found

    def _row(self, **wanted: Any) -> Row | None:
        fitting = (r for r in self.rows if all(r.get(k) == v for k, v in wanted.items()))
        return next(fitting, None)

    def write(self) -> None:
        """The results so far."""
        ratios = {name: round(value, 3) for name, value in self.ratios().items()}
        result = {
            "machine": {**machine("torch", "triton", "sentence-transformers"), **device_facts()},
            "commit": commit("src/opengte", "benchmarks/gpu"),
            "dry_run": self.device == "cpu",
            "ratios": ratios,
            "goals": {name: goal for name, goal in GOALS.items() if name in ratios},
            "equivalences": self.tests,
            "missing": self.missing,
            "rows": self.rows,
        }
        if self.path is not None:
            self.path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def device_facts() -> Row:
    import torch

    if not torch.cuda.is_available():
        return {"gpu": None}
    facts = torch.cuda.get_device_properties(0)
    return {"gpu": facts.name, "gpu_memory_gib": round(facts.total_memory / 2**30, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--minutes", type=float, default=8.5, help="end after so many minutes")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a processor")
    arguments = parser.parse_args()
    if device_facts()["gpu"] is None and not arguments.dry_run:
        print("there is no CUDA device here: nothing was measured")
        return
    device = "cpu" if arguments.dry_run else "cuda"
    session = Session(arguments.json, arguments.minutes, device)
    session.check()
    for part, settings in parts(dry_run=arguments.dry_run):
        session.measure(part, settings)
    for name, ratio in session.ratios().items():
        goal = f"   (goal {GOALS[name]})" if name in GOALS else ""
        print(f"{name:40} {ratio:7.3f}{goal}")
    if session.missing:
        sys.exit(1)


if __name__ == "__main__":
    main()
