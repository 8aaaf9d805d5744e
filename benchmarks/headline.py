"""Ratios to the peers, from the areas' results files -> the table in the README.

    python benchmarks/headline.py

A test holds the README against the files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from opengte.atomic import write_text

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from pages import with_block  # noqa: E402

README = HERE.parent / "README.md"
ROWS = (
    ("a training step, float32", "sentence-transformers' trainer", "training", "results.json",
     "tokens_vs_st_fp32_fp32"),
    ("a training step, bfloat16", "sentence-transformers' trainer", "training", "results.json",
     "tokens_vs_st_bf16"),
    ("a step of 4,096 pairs, gradients cached", "sentence-transformers' trainer", "training",
     "results.json", "tokens_vs_st_cached_4096"),
    ("GTE's loss of 8,192 pairs, float32", "sentence-transformers' loss", "losses", "results.json",
     "loss_time_fp32_vs_st_8192"),
    ("its memory at 16,384", "the same, dense", "losses", "results.json", "loss_memory"),
    ("batches of 16,384 from many sources", "`datasets`, map-style", "data", "results.json",
     "pairs_vs_mapstyle"),
    ("the same, streamed", "`datasets.interleave_datasets`", "data", "results.json",
     "pairs_vs_interleave"),
    ("exact top 100 of 500,000 vectors", "faiss `IndexFlatIP`", "mining", "results_exact.json",
     "mining_vs_faiss"),
)  # fmt: skip


def table() -> str:
    """One line a ratio; larger is better, 1 is the peer."""
    lines = ["| | beside | times better | measured by |", "|---|---|---|---|"]
    for what, peer, area, file, ratio in ROWS:
        found = json.loads((HERE / area / file).read_text(encoding="utf-8"))["ratios"][ratio]
        program = "exact.py" if file == "results_exact.json" else "run.py"
        lines.append(f"| {what} | {peer} | {found:.1f} | `benchmarks/{area}/{program}` |")
    return "\n".join(lines) + "\n"


def filled(readme: str) -> str:
    """The README with the table in its place."""
    return with_block(readme, "speed", table())


if __name__ == "__main__":
    write_text(README, filled(README.read_text(encoding="utf-8")))
