"""Published scores of all-MiniLM-L6-v2, measured again with this package on local data.

The encoder is the package's own, in float32, at the 256 tokens that the published runs used.
"""

from __future__ import annotations

import pytest

from opengte.evaluation import EmbeddingCache, evaluate, load_task
from opengte.evaluation.published_scores import compare_with_published

pytestmark = [pytest.mark.slow, pytest.mark.shared]

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def encoder(minilm_folder):
    from opengte.models.weights import load_encoder

    return load_encoder(minilm_folder, max_tokens=256, dtype="float32")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return EmbeddingCache(tmp_path_factory.mktemp("vectors"))


@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    [
        ("stsbenchmark", 0.8203, 0.003),
        ("sts13", 0.8060, 0.003),
        ("sts14", 0.7559, 0.003),
        ("sts15", 0.8539, 0.003),
        ("banking77", 0.8004, 0.01),
        ("lcqmc", 0.2385, 0.01),
        ("afqmc", 0.0859, 0.01),
        ("scifact", 0.6451, 0.003),
    ],
)
def test_reproduces_the_published_score(shared_data, encoder, cache, name, published, tolerance):
    result = evaluate(encoder, load_task(shared_data / "eval" / name), cache=cache)
    assert result.main_score == pytest.approx(published, abs=tolerance)
    (row,) = compare_with_published([result], models=[MINILM])
    assert row.published.score == published


@pytest.mark.parametrize(
    "name",
    [
        "afqmc",
        "atec_ccks",
        "banking77",
        "cisi",
        "clinc150",
        "cmrc2018_dev_retrieval",
        "cosqa_dev",
        "cranfield",
        "lcqmc",
        "mrpc",
        "nfcorpus_orig",
        "ocnli",
        "oppo_xiaobu",
        "reuters10_titles",
        "scifact",
        "sts12",
        "sts13",
        "sts14",
        "sts15",
        "stsb_zh",
        "stsbenchmark",
        "tatoeba",
        "trecqa_wang",
    ],
)
def test_every_shared_set_runs_offline(shared_data, name):
    from opengte.runtime.hashed import HashEncoder

    task = load_task(shared_data / "eval" / name)
    result = evaluate(HashEncoder(64), task)
    assert result.name == name
    assert -1 <= result.ci95[0] <= result.main_score <= result.ci95[1] <= 1
    assert result.num_items > 0
