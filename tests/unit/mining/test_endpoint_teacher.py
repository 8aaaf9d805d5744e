"""A teacher behind ``/v1/embeddings`` that dies half-way: a clear error, and nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opengte.errors import DataError, EndpointError
from opengte.http_client import HttpConfig
from opengte.mining.mine import mine_negatives
from opengte.mining.rules import MiningRules
from opengte.mining.teachers import EncoderTeacher
from opengte.records import Pair
from opengte.runtime.hashed import HashEncoder
from opengte.runtime.http import HttpEncoder, HttpEncoderConfig

BEHIND = HashEncoder(32)
PAIRS = [Pair(query=f"query {i} {i % 7}", positive=f"answer {i} {i % 5} end") for i in range(40)]
RULES = MiningRules(num_negatives=3, perc_pos=None)


def teacher(endpoint: Any, clock: Any) -> EncoderTeacher:
    config = HttpEncoderConfig(
        http=HttpConfig(url=endpoint.url, timeout_seconds=5, max_retries=1),
        model="m",
        encoding="float",
        batch_texts=5,
        num_connections=1,
    )
    return EncoderTeacher(HttpEncoder(config, clock=clock), shard_texts=10)


def embed(request: Any) -> Any:
    vectors = BEHIND.encode(request.payload["input"]).tolist()
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}


def test_a_dead_endpoint_is_named_and_the_run_goes_on(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path
) -> None:
    endpoint.answer = lambda request: reply(embed(request))
    straight = mine_negatives(
        PAIRS, None, teacher(endpoint, clock), RULES, folder=tmp_path / "straight", block_pairs=8
    )
    endpoint.requests.clear()
    endpoint.answer = lambda request: (
        reply(embed(request)) if len(endpoint.requests) < 8 else reply(b"x", cut_after=0)
    )
    with pytest.raises(EndpointError, match=r"/v1/embeddings gave a connection error"):
        mine_negatives(
            PAIRS, None, teacher(endpoint, clock), RULES, folder=tmp_path / "broken", block_pairs=8
        )
    assert len(list(tmp_path.glob("broken/corpus/*/shard-*.npy"))) == 3
    endpoint.requests.clear()
    endpoint.answer = lambda request: reply(embed(request))
    again = mine_negatives(
        PAIRS, None, teacher(endpoint, clock), RULES, folder=tmp_path / "broken", block_pairs=8
    )
    sent = [text for request in endpoint.requests for text in request.payload["input"]]
    assert sum(text.startswith("answer") for text in sent) == 10, "three shards were kept"
    assert again.path.read_bytes() == straight.path.read_bytes()


def test_a_kept_shard_of_another_dimension_is_refused(
    endpoint: Any, clock: Any, reply: Any, tmp_path: Path
) -> None:
    endpoint.answer = lambda request: reply(embed(request))
    own = teacher(endpoint, clock)
    own.open([pair.positive for pair in PAIRS], folder=tmp_path / "corpus")
    shard = next(tmp_path.glob("corpus/*/shard-00000.npy"))
    other = next(tmp_path.glob("corpus/*/shard-00003.npy"))
    shard.write_bytes(other.read_bytes().replace(b"(10, 32)", b"(10, 16)"))
    ranker = own.open([pair.positive for pair in PAIRS], folder=tmp_path / "corpus")
    with pytest.raises(DataError, match=r"shard-00000.npy: .*shape \(10, 16\), expected"):
        ranker.rank(["query"], 3)
