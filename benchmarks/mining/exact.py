"""Exact top-100 search as mining does it, beside faiss's flat index, on real vectors.

    python benchmarks/mining/exact.py [--quick] [--documents N] [--json FILE]
    python benchmarks/mining/exact.py --hundred-thousand [--documents N] [--json FILE]

4,096 queries against 500,000 documents of 384 dimensions, one thread, CPU seconds, medians of three
rounds in which the systems alternate. Vectors are all-MiniLM-L6-v2's of catalogue texts, embedded
once and kept in the temp folder (``catalogue_vectors.py``; eight to thirty CPU minutes the first
time). ``--quick`` takes 32,768 documents and 1,024 queries. ``--hundred-thousand`` runs ours once
with 100,000 queries and reports its peak memory. Both add to the JSON file what it has not yet.

Recall counts a hit as found when its score is that of faiss's hit of the same rank (within 2e-6):
equal vectors have equal scores, and faiss orders those as it likes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import torch
from catalogue_vectors import vectors

from opengte.search.embedding_shards import open_shard
from opengte.search.exact import ExactIndex
from opengte.search.exact_torch import TorchExactIndex

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
K = 100
PEER, OURS, PLAIN = "faiss IndexFlatIP", "TorchExactIndex", "ExactIndex (numpy)"
FULL, QUICK = (500_000, 4_096), (32_768, 1_024)
GOAL_WITH_AMX, GOAL_WITHOUT = 3.0, 1.5
FAISS_QUERIES_PER_SECOND = 97.0  # at 500k documents, measured before on a slower machine


def machine() -> dict[str, object]:
    """What the figures depend on."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        text = ""
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    return {
        "processor": facts.get("model name", platform.processor()),
        "units": [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags],
        "num_cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "faiss-cpu": version("faiss-cpu"),
    }


def commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def alternate(queries, shards, *, rounds: int) -> tuple[list[dict[str, object]], float]:
    """One row a system and round, and our recall."""
    import faiss

    faiss.omp_set_num_threads(1)
    peer = faiss.IndexFlatIP(queries.shape[1])
    for shard in shards:
        peer.add(np.ascontiguousarray(shard))
    systems = {
        PEER: peer,
        OURS: TorchExactIndex(shards),
        PLAIN: ExactIndex(shards),
    }
    rows, answers = [], {}
    for number in range(rounds):
        for name, system in systems.items():
            if name == PLAIN and number:
                continue  # once shows that the answers agree
            start = time.process_time()
            answers[name] = system.search(queries, K)
            seconds = time.process_time() - start
            rows.append(
                {
                    "system": name,
                    "round": number,
                    "cpu_seconds": round(seconds, 3),
                    "queries_per_cpu_second": round(len(queries) / seconds, 1),
                }
            )
            print(f"{name:22} {seconds:8.2f} s {len(queries) / seconds:9.1f} queries/s", flush=True)
    np.testing.assert_array_equal(answers[OURS][1], answers[PLAIN][1])
    np.testing.assert_array_equal(answers[OURS][0], answers[PLAIN][0])
    return rows, float(np.mean(answers[OURS][0] >= answers[PEER][0] - 2e-6))


def median(rows, name: str) -> float:
    return statistics.median(r["cpu_seconds"] for r in rows if r["system"] == name)


def compare(num_documents: int, num_queries: int, *, rounds: int) -> dict[str, object]:
    """The measurement, as the JSON file holds it."""
    queries, paths = vectors(num_documents)
    shards = _cut([open_shard(path) for path in paths], num_documents)
    rows, recall = alternate(queries[:num_queries], shards, rounds=rounds)
    full = num_documents == FULL[0]
    where = machine()
    name = "mining_vs_faiss" if full else f"mining_vs_faiss_{num_documents // 1000}k"
    goal = GOAL_WITH_AMX if "amx_bf16" in where["units"] else GOAL_WITHOUT
    ratios = {name: median(rows, PEER) / median(rows, OURS), "recall": recall}
    result = {
        "machine": where,
        "commit": commit(),
        "ratios": {key: round(value, 4) for key, value in ratios.items()},
        "goals": {"mining_vs_faiss": goal, "recall": 1.0},
        "rows": [
            {**row, "num_documents": num_documents, "num_queries": num_queries, "k": K}
            for row in rows
        ],
        "precision": TorchExactIndex(shards).precision,
    }
    # At 500k documents faiss had 97 queries a second: its work is proportional to the documents.
    speed = num_queries / median(rows, PEER) * num_documents / FULL[0]
    result["valid"] = speed >= 0.8 * FAISS_QUERIES_PER_SECOND
    return result


def hundred_thousand(num_documents: int) -> dict[str, object]:
    """Ours alone, once: the first 100,000 documents as queries against all."""
    _, paths = vectors(num_documents)
    shards = _cut([open_shard(path) for path in paths], num_documents)
    index = TorchExactIndex(shards)
    queries = index.take(np.arange(100_000))
    start = time.process_time()
    scores, rows = index.search(queries, K)
    seconds = time.process_time() - start
    assert rows.shape == (100_000, K)
    assert np.all(np.diff(scores, axis=1) <= 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "machine": machine(),
        "commit": commit(),
        "ratios": {"memory_2gb_over_ours": round(2048 / peak, 3)},
        "goals": {"memory_2gb_over_ours": 1.0},
        "rows": [
            {
                "system": OURS,
                "num_documents": num_documents,
                "num_queries": 100_000,
                "k": K,
                "cpu_seconds": round(seconds, 1),
                "queries_per_cpu_second": round(100_000 / seconds, 1),
                "peak_rss_mib": round(peak),
            }
        ],
    }


def _cut(shards, num_documents: int):
    kept, left = [], num_documents
    for shard in shards:
        kept.append(shard[:left])
        left -= len(kept[-1])
        if left == 0:
            break
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="32,768 documents, 1,024 queries")
    parser.add_argument("--hundred-thousand", action="store_true", help="ours once, with memory")
    parser.add_argument("--documents", type=int, default=FULL[0], help="fewer than 500,000")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(machine()))
    if arguments.hundred_thousand:
        result = hundred_thousand(arguments.documents)
    else:
        size = QUICK if arguments.quick else (arguments.documents, FULL[1])
        result = compare(*size, rounds=3)
    for name, ratio in result["ratios"].items():
        print(f"{name:24} {ratio:8.4f}   (goal {result['goals'].get(name, 'none here')})")
    if arguments.json:
        text = json.dumps(joined(arguments.json, result), indent=1)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def joined(path: Path, result: dict[str, object]) -> dict[str, object]:
    """The result with what the file holds of the other measurement."""
    if not path.exists():
        return result
    known = json.loads(path.read_text(encoding="utf-8"))
    peaks = "peak_rss_mib" in result["rows"][0]
    kept = [row for row in known["rows"] if ("peak_rss_mib" in row) != peaks]
    other = [key for key in known["ratios"] if (key == "memory_2gb_over_ours") != peaks]
    return {
        **known,
        **result,
        "ratios": {**{key: known["ratios"][key] for key in other}, **result["ratios"]},
        "goals": {**known["goals"], **result["goals"]},
        "rows": kept + result["rows"],
    }


if __name__ == "__main__":
    main()
