"""One measurement in a process of its own: prints a JSON object."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 16_384
SEED = 7


def private_mib() -> float:
    """Memory that no file stands behind: what the process itself costs."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def timed(batches: Iterator[Any], count: Callable[[Any], int], seconds: float) -> dict[str, float]:
    """CPU seconds to the first batch, then pairs per CPU second, for at least so long."""
    begin = time.process_time()
    first = count(next(batches))
    first_seconds = time.process_time() - begin
    pairs, rounds, begin = 0, 0, time.process_time()
    while rounds < 3 or time.process_time() - begin < seconds:
        pairs += count(next(batches))
        rounds += 1
    spent = time.process_time() - begin
    return {
        "first_batch_cpu_seconds": first_seconds,
        "pairs_per_cpu_second": pairs / spent,
        "pairs_a_batch": first,
        "batches": rounds,
    }


def interleave(folder: Path) -> dict[str, float]:
    """HF streaming: one iterable a file, drawn with equal probabilities, batched, Arrow format."""
    from datasets import interleave_datasets, load_dataset

    files = sorted(map(str, (folder / "jsonl").glob("*.jsonl")))
    streams = [
        load_dataset("json", data_files=file, split="train", streaming=True) for file in files
    ]
    mixed = interleave_datasets(
        streams,
        probabilities=[1 / len(files)] * len(files),
        seed=SEED,
        stopping_strategy="all_exhausted",
    )

    def batches() -> Iterator[dict[str, list[str]]]:
        yield from mixed.iter(batch_size=BATCH)

    return timed(batches(), lambda batch: len(batch["query"]), 1.0)


def mapstyle(folder: Path) -> dict[str, float]:
    """HF map-style: files as memory-mapped Arrow, interleaved, random rows, both columns read."""
    import numpy as np
    from datasets import interleave_datasets, load_dataset

    files = sorted(map(str, (folder / "jsonl").glob("*.jsonl")))
    parts = [
        load_dataset("json", data_files=file, split="train", cache_dir=str(folder / "cache"))
        for file in files
    ]
    mixed = interleave_datasets(
        parts,
        probabilities=[1 / len(files)] * len(files),
        seed=SEED,
        stopping_strategy="all_exhausted",
    )
    order = np.random.default_rng(SEED)

    def batches() -> Iterator[dict[str, list[str]]]:
        while True:
            yield mixed[order.integers(0, len(mixed), BATCH)]

    return timed(batches(), lambda batch: len(batch["query"]), 2.0)


def ours(folder: Path, mode: str) -> dict[str, float]:
    """Our store: a mixture at alpha = 0.5."""
    from opengte.data.mixture import Mixture, MixtureConfig
    from opengte.data.store import PairStore

    config = MixtureConfig(batch_size=BATCH, mode=mode, seed=SEED)  # type: ignore[arg-type]
    mixture = Mixture(PairStore(folder / "store").sources(), config)

    def batches() -> Iterator[Any]:
        step = 0
        while True:
            yield mixture.batch(step)
            step += 1

    return timed(batches(), len, 2.0)


def far(folder: Path) -> dict[str, float]:
    """A large store: opening, the first batch at step 10,000,000, memory, cost of a batch."""
    from opengte.data.mixture import Mixture, MixtureConfig
    from opengte.data.store import PairStore

    before = private_mib()
    begin = time.perf_counter()
    mixture = Mixture(PairStore(folder).sources(), MixtureConfig(batch_size=BATCH, seed=SEED))
    opened = time.perf_counter() - begin
    memory = private_mib() - before
    begin = time.perf_counter()
    mixture.batch(10_000_000)
    first = time.perf_counter() - begin
    for step in range(5):
        mixture.batch(step)
    begin = time.process_time()
    for step in range(20):
        mixture.batch(10_000_000 + step)
    spent = (time.process_time() - begin) / 20
    return {
        "num_pairs": sum(len(source.rows) for source in mixture.sources),
        "open_seconds": opened,
        "open_private_mib": memory,
        "process_private_mib": private_mib(),
        "first_batch_seconds": first,
        "batch_cpu_seconds": spent,
    }


def build(folder: Path) -> dict[str, float]:
    """JSONL to a store, one process."""
    import shutil

    from opengte.data.build import build_store

    out = folder / "store-timed"
    files = sorted((folder / "jsonl").glob("*.jsonl"))
    begin = time.process_time()
    result = build_store(files, out, num_workers=1)
    spent = time.process_time() - begin
    shutil.rmtree(out)
    return {"num_pairs": result.num_pairs, "pairs_per_cpu_second": result.num_pairs / spent}


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    systems: dict[str, Callable[[], dict[str, float]]] = {
        "interleave_datasets": lambda: interleave(folder),
        "map-style": lambda: mapstyle(folder),
        "opengte one_source": lambda: ours(folder, "one_source"),
        "opengte mixed": lambda: ours(folder, "mixed"),
        "opengte build": lambda: build(folder),
        "opengte 1M rows": lambda: far(folder / "one"),
        "opengte 1M rows, 100 shards": lambda: far(folder / "pieces"),
        "opengte 100M rows": lambda: far(folder / "hundred"),
    }
    print(json.dumps(systems[what]()))


if __name__ == "__main__":
    main()
