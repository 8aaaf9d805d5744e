"""The grid's results -> the table of the how-to page.

    python benchmarks/mining/table.py

A test holds the page against ``results.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opengte.atomic import write_text

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from pages import with_block  # noqa: E402

PAGE = HERE.parents[1] / "docs/how-to/mine-hard-negatives.md"
RESULTS = HERE / "results.json"


def table(results: Mapping[str, Any]) -> str:
    """Each rule against random negatives: pooled on dev and test, and every corpus on test."""
    rows = {(row["corpus"], row["part"], row["arm"]): row for row in results["rows"]}
    corpora = [name for name in dict.fromkeys(corpus for corpus, _, _ in rows) if name != "all"]
    random = [rows["all", part, "random"] for part in ("dev", "test")]
    lines = [
        "| negatives | dev | p | test | p | " + " | ".join(f"`{name}`" for name in corpora) + " |",
        "|---|---|---|---|---|" + "---|" * len(corpora),
        f"| random | {random[0]['ndcg@10']:.4f} | | {random[1]['ndcg@10']:.4f} | | "
        + " | ".join(f"{rows[name, 'test', 'random']['ndcg@10']:.4f}" for name in corpora)
        + " |",
    ]
    for arm in dict.fromkeys(arm for _, _, arm in rows):
        if arm in ("base", "random"):
            continue
        pooled = [rows["all", part, arm] for part in ("dev", "test")]
        lines.append(
            f"| `{arm}` | "
            + " | ".join(f"{_interval(row)} | {row['p_holm']:.3f}" for row in pooled)
            + " | "
            + " | ".join(f"{rows[name, 'test', arm]['against_random'][0]:+.4f}" for name in corpora)
            + " |"
        )
    settings = results["settings"]
    return (
        "\n".join(lines)
        + f"\n\nnDCG@10, differences to random negatives with 95 % intervals over components and "
        f"{settings['seeds']} seeds; {random[0]['num_queries']:,} dev and "
        f"{random[1]['num_queries']:,} test queries; p of a sign-flip test on queries alone "
        "(seeds averaged), after Holm over the arms of a column. "
        f"{settings['steps']} steps of {settings['batch']} pairs with {settings['num_negatives']} "
        "negatives each.\n"
    )


def filled(page: str, results: Mapping[str, Any]) -> str:
    """The page with the table in its place."""
    return with_block(page, "mined-against-random", table(results))


def _interval(row: Mapping[str, Any]) -> str:
    mean, low, high = row["against_random"]
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), results))
