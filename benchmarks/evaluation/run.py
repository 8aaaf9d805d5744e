"""Published scores of all-MiniLM-L6-v2, measured again with this package on local sets.

    python benchmarks/evaluation/run.py --json benchmarks/evaluation/results.json --docs

The encoder is the package's own, in float32, one thread, at the 256 tokens that the published runs
used. The sets are read from the shared folder (``OPENGTE_SHARED``, else ``../shared`` beside the
repository); the published scores ship with the package and are compared only where name, split
and size of the set are those of the published task. ``--docs`` writes the table of the evaluation
page; a test holds the page against the results file. ``--quick`` measures the two smallest sets.
What was measured is kept beside the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cells import ROOT, Cells, Row, machine, write_results  # noqa: E402
from pages import with_block  # noqa: E402

CODE = ("src/opengte/evaluation", "src/opengte/models", "src/opengte/metrics",
        "benchmarks/evaluation")  # fmt: skip
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
MAX_TOKENS = 256
COMMAND = "python benchmarks/evaluation/run.py --json benchmarks/evaluation/results.json --docs"
TOLERANCES = {
    "scifact": 0.003,
    "stsbenchmark": 0.003,
    "sts13": 0.003,
    "sts14": 0.003,
    "sts15": 0.003,
    "banking77": 0.01,
    "lcqmc": 0.01,
    "afqmc": 0.01,
}
QUICK = ("stsbenchmark", "sts13")
DOCS = ROOT / "docs/reference/evaluation.md"
METRICS = {"ndcg@10": "nDCG@10", "cosine_spearman": "Spearman", "accuracy": "accuracy"}


def main() -> None:
    """Measure the sets that the cells do not hold, and write what was asked for."""
    options = parse()
    kept = None if options.json is None else options.json.with_suffix(".cells.jsonl")
    cells = Cells(kept, code=CODE)
    encoder: list[Any] = []
    rows = []
    for name in QUICK if options.quick else TOLERANCES:
        row = cells.measure({"set": name}, lambda name=name: measure(name, encoder))
        rows.append(row)
        print(
            f"{row['task']:24} {row['score']:.4f}  published {row['published']:.4f}  "
            f"difference {row['difference'] + 0.0:+.4f} of {row['tolerance']} allowed",
            flush=True,
        )
    reached = sum(abs(row["difference"]) <= row["tolerance"] for row in rows)
    write_results(
        options.json,
        machine("torch", "tokenizers", "scikit-learn", "scipy"),
        ratios={"published_scores_reproduced": reached / len(rows)},
        goals={"published_scores_reproduced": 1.0},
        rows=rows,
        command=COMMAND,
        model=MODEL,
        max_tokens=MAX_TOKENS,
    )
    if options.docs:
        page = DOCS.read_text(encoding="utf-8")
        DOCS.write_text(filled(page, json.loads(options.json.read_text())), encoding="utf-8")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--docs", action="store_true", help="write the table of the docs page")
    options = parser.parse_args()
    if options.docs and (options.quick or options.json is None):
        parser.error("--docs needs --json FILE and all sets")
    return options


def measure(name: str, encoder: list[Any]) -> Row:
    """One set beside its published score; the encoder is opened for the first one."""
    from opengte.evaluation import evaluate, load_task
    from opengte.evaluation.published_scores import compare_with_published
    from opengte.loading import find_model
    from opengte.models.weights import load_encoder

    if not encoder:
        folder = find_model("all-MiniLM-L6-v2")
        encoder.append(load_encoder(folder, max_tokens=MAX_TOKENS, dtype="float32"))
    shared = Path(os.environ.get("OPENGTE_SHARED", ROOT.parent / "shared"))
    started = time.process_time()
    result = evaluate(encoder[0], load_task(shared / "data" / "eval" / name))
    (found,) = compare_with_published([result], models=[MODEL])
    return {
        "set": name,
        "task": found.task,
        "split": result.split,
        "num_items": result.num_items,
        "metric": found.metric,
        "score": round(found.ours, 4),
        "ci95": [round(limit, 4) for limit in result.ci95],
        "published": found.published.score,
        "difference": round(found.difference, 4),
        "tolerance": TOLERANCES[name],
        "source": found.published.source,
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def table(results: Mapping[str, Any]) -> str:
    """The rows of a results file as the docs page shows them."""
    lines = [
        "| task | split | metric | here | published | difference | allowed |",
        "|---|---|---|---|---|---|---|",
    ]
    # + 0.0 makes a zero of -0.0.
    lines += [
        f"| {row['task']} | {row['split']} | {METRICS.get(row['metric'], row['metric'])} "
        f"| {row['score']:.4f} | {row['published']:.4f} | {row['difference'] + 0.0:+.4f} "
        f"| {row['tolerance']} |"
        for row in results["rows"]
    ]
    return "\n".join(lines) + "\n"


def filled(page: str, results: Mapping[str, Any]) -> str:
    """The page with the table between its markers."""
    return with_block(page, "published", table(results))


if __name__ == "__main__":
    main()
