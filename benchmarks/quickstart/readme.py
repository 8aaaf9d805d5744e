"""The summary of a quickstart -> the table of results in the README.

    gte quickstart && cp quickstart/summary.json benchmarks/quickstart/default.json
    python benchmarks/quickstart/readme.py

A test holds the README against ``default.json``, so that no number in it goes stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opengte.atomic import write_text

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pages import with_block

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SUMMARY = Path(__file__).with_name("default.json")
SYSTEMS = {
    "bm25": "BM25",
    "base": "all-MiniLM-L6-v2",
    "stage1": "after stage 1",
    "final": "**what dev kept**",
}
SLICES = {
    "all": "all",
    "name_masked": "the answer's own name masked",
    "low_overlap": "fewest words in common with the answer",
    "unseen_package": "packages of which nothing was seen",
    "general": "general English, nothing to do with code",
}


def results(summary: Mapping[str, Any]) -> str:
    """The block between the README's markers."""
    gain = summary["paired_difference"]
    lines = [
        f"{summary['num_test_queries']} searches of packages held out, among "
        f"{summary['num_pool_documents']:,} functions: "
        f"**MRR@10 {gain['mean']:+.3f}** {_interval(gain)} (`benchmarks/quickstart/default.json`).",
        "",
        "| | MRR@10 | nDCG@10 | recall@10 |",
        "|---|---|---|---|",
    ]
    for key, name in SYSTEMS.items():
        row = summary["systems"][key]
        lines.append(
            f"| {name} | {row['mrr@10']:.3f} {_interval(row)} | {row['ndcg@10']:.3f} "
            f"| {row['recall@10']:.3f} |"
        )
    lines += ["", "| searches | number | before | after | difference |", "|---|---|---|---|---|"]
    for key, name in SLICES.items():
        row = summary["slices"][key]
        found = row["paired_difference"]
        lines.append(
            f"| {name} | {row['num_queries']} | {row['base']['mrr@10']:.3f} "
            f"| {row['final']['mrr@10']:.3f} | {found['mean']:+.3f} {_interval(found)} |"
        )
    minutes = summary["seconds"] / 60
    lines += [
        "",
        f"Intervals are 95 %, clustered by package; one seed. The run read "
        f"{summary['num_train_tokens'] / 1e6:.1f}M training tokens, took {minutes:.1f} minutes and "
        f"{summary['peak_rss_mb'] / 1024:.1f} GiB on two cores.",
    ]
    return "\n".join(lines) + "\n"


def filled(readme: str, summary: Mapping[str, Any]) -> str:
    """``readme`` with the results of ``summary`` between its markers."""
    return with_block(readme, "results", results(summary))


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["ci95"]
    return f"[{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    write_text(README, filled(README.read_text(encoding="utf-8"), summary))
