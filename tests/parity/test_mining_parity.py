"""Mining beside sentence-transformers' ``mine_hard_negatives``: the same negatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opengte.mining.mine import mine_negatives
from opengte.mining.rules import MiningRules
from opengte.records import EmbeddingSpace, Pair

pytestmark = pytest.mark.slow

SUBJECTS = ["river", "engine", "violin", "market", "planet", "kitchen", "bridge", "forest"]
VERBS = ["repair", "paint", "measure", "sell", "observe", "clean"]


class TheirEncoder:
    """Their model behind our socket, so that both mine in one space."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.space = EmbeddingSpace(
            model="theirs",
            revision="0",
            pooling="mean",
            dimensions=384,
            normalised=True,
            max_tokens=64,
        )

    def embed(self, texts: Any, **settings: Any) -> Any:
        raise NotImplementedError

    def encode(self, texts: Any, **settings: Any) -> Any:
        vectors = self.model.encode(list(texts), normalize_embeddings=True, batch_size=64)
        return np.asarray(vectors, dtype=np.float32)


@pytest.fixture(scope="module")
def model(minilm_folder: Path) -> Any:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(str(minilm_folder), device="cpu")


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [
        Pair(
            query=f"how to {verb} a {subject}",
            positive=f"To {verb} the {subject}, begin early and take the tools for a {subject}.",
        )
        for subject in SUBJECTS
        for verb in VERBS
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"perc_pos": 0.95}, {"relative_margin": 0.05}),
        ({"absolute_margin": 0.1}, {"absolute_margin": 0.1}),
        ({"max_score": 0.6}, {"max_score": 0.6}),
        ({"max_score": 0.7, "min_score": 0.3}, {"max_score": 0.7, "min_score": 0.3}),
        ({"first_rank": 4, "last_rank": 12}, {"range_min": 3, "range_max": 12}),
        ({"first_rank": 2, "perc_pos": 0.9}, {"range_min": 1, "relative_margin": 0.1}),
    ],
)
def test_same_negatives_as_sentence_transformers(
    model: Any, pairs: list[Pair], tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    datasets = pytest.importorskip("datasets")
    from sentence_transformers.util import mine_hard_negatives

    settings = {"last_rank": 30, "perc_pos": None, "near_duplicate": None, **ours}
    rules = MiningRules(num_negatives=4, exclude_answers=False, **settings)
    result = mine_negatives(pairs, None, TheirEncoder(model), rules, folder=tmp_path)
    expected = mine_hard_negatives(
        datasets.Dataset.from_dict(
            {"query": [p.query for p in pairs], "positive": [p.positive for p in pairs]}
        ),
        model,
        num_negatives=4,
        output_format="triplet",
        verbose=False,
        **{"range_max": 30, **theirs},
    )
    negatives: dict[str, list[str]] = {}
    for row in expected:
        negatives.setdefault(row["query"], []).append(row["negative"])
    assert negatives
    for pair in result.pairs:
        # Theirs may order texts of nearly equal scores in another way.
        assert set(pair.negatives) == set(negatives.get(pair.query, [])), pair.query
