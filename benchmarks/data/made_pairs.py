"""Made-up pairs of realistic size: what the data benchmarks read, equal on every machine.

Debian's (short description, long description) pairs, which `measured.md` timed, have about 7 and
55 words; words here follow Zipf's law over 50,000 made-up ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

NUM_WORDS = 50_000


def vocabulary(rng: np.random.Generator) -> np.ndarray:
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = rng.integers(2, 11, NUM_WORDS)
    return np.array(["".join(letters[rng.zipf(1.2, n) % 26]) for n in lengths], dtype=object)


def write_sources(folder: Path, *, num_sources: int, num_pairs: int, seed: int = 0) -> list[Path]:
    """Write JSONL files of equal size, ``num_pairs`` together."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    words = vocabulary(rng)
    paths = []
    for number in range(num_sources):
        path = folder / f"source{number:02d}.jsonl"
        paths.append(path)
        size = num_pairs // num_sources + (number < num_pairs % num_sources)
        if not path.exists():
            path.write_text("".join(_lines(words, rng, size, number)), encoding="utf-8")
    return paths


def _lines(words: np.ndarray, rng: np.random.Generator, size: int, source: int) -> list[str]:
    queries, positives = rng.integers(4, 11, size), rng.integers(20, 91, size)
    drawn = words[rng.zipf(1.15, int(queries.sum() + positives.sum())) % NUM_WORDS].tolist()
    lines, at = [], 0
    for row, (query, positive) in enumerate(zip(queries.tolist(), positives.tolist(), strict=True)):
        middle, end = at + query, at + query + positive
        pair = {
            "query": " ".join(drawn[at:middle]) + f" {source}-{row}",
            "positive": " ".join(drawn[middle:end]) + f" ({source}/{row})",
        }
        lines.append(json.dumps(pair) + "\n")
        at = end
    return lines
