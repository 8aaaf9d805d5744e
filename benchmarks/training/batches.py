"""Pairs on disk -> the batches that both systems train on, in the same order.

Pairs are grouped by length in the manner of transformers' length-grouped sampler: shuffled, cut
into mega-batches, each sorted by length and cut into batches, which are shuffled again.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("OPENGTE_SHARED", ROOT.parent / "shared")) / "data" / "pairs"
MEGA_BATCHES = 50
NUM_HELD_OUT = 1500

TextPair = tuple[str, str]


def read_pairs(limit: int = 20_000) -> tuple[str, list[TextPair]]:
    """Name and pairs of the corpus: Debian's package descriptions, else the committed sample."""
    shared = SHARED / "debian_packages.jsonl.zst"
    if shared.is_file():
        import zstandard

        with zstandard.open(shared, "rt", encoding="utf-8") as stream:
            rows = [json.loads(line) for _, line in zip(range(limit), stream, strict=False)]
        return "debian_packages", [(row["query"], row["positive"]) for row in rows]
    rows = []
    for path in sorted((ROOT / "examples" / "data" / "pairs").rglob("*.jsonl")):
        rows += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return "examples/data/pairs", [(row["query"], row["positive"]) for row in rows][:limit]


def hold_out(pairs: list[TextPair]) -> tuple[list[TextPair], list[TextPair]]:
    """Pairs to train on, and others, with distinct texts, to measure on: the same for all seeds."""
    unique = list({document: (query, document) for query, document in pairs}.values())
    unique = list({query: (query, document) for query, document in unique}.values())
    random.Random(0).shuffle(unique)
    size = min(NUM_HELD_OUT, len(unique) // 4)
    return unique[size:], unique[:size]


def grouped_batches(
    pairs: list[TextPair], *, batch_size: int, num_batches: int, seed: int
) -> list[list[TextPair]]:
    """Batches of pairs of about equal length, without a text twice in a batch's mega-batch."""
    unique = list({document: (query, document) for query, document in pairs}.values())
    unique = list({query: (query, document) for query, document in unique}.values())
    draw = random.Random(seed)
    draw.shuffle(unique)
    mega = batch_size * MEGA_BATCHES
    batches: list[list[TextPair]] = []
    for start in range(0, len(unique), mega):
        part = sorted(unique[start : start + mega], key=lambda pair: -sum(map(len, pair)))
        cut = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        cut = [batch for batch in cut if len(batch) == batch_size]
        draw.shuffle(cut)
        batches += cut
    if len(batches) < num_batches:
        raise SystemExit(
            f"{len(batches)} batches of {batch_size} in the corpus, need {num_batches}"
        )
    return batches[:num_batches]
