"""The main job from the command line, on a small repository with a tiny model."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Gte = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[bytes]"]

SETTINGS = (
    "stages.corpus.packages=[]",
    "stages.corpus.standard_library=false",
    "stages.corpus.max_pairs=1200",
    "stages.corpus.test_queries=120",
    "stages.corpus.dev_queries=60",
    "stages.corpus.pool_documents=400",
    "stages.corpus.dev_pool_documents=200",
    "stages.pretrain.max_training_tokens=60000",
    "stages.pretrain.training.checkpoint_every=3",
    "stages.pretrain.training.precision=float32",
    "stages.pretrain.training.learning_rate=1e-3",
    "stages.finetune.max_training_tokens=30000",
    "stages.finetune.training.checkpoint_every=2",
    "stages.finetune.training.precision=float32",
    "stages.mine.max_queries=200",
    "stages.select.weights=[1.0, 0.5]",
)
COSTS = ("seconds", "peak_rss_mb")


def arguments(repository: Path, model: Path, out: Path) -> list[str | Path]:
    options: list[str | Path] = ["quickstart", "--data", repository, "--model", model, "--out", out]
    for setting in SETTINGS:
        options += ["--set", setting]
    return options


def metrics(out: Path) -> dict[str, Any]:
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return {key: value for key, value in summary.items() if key not in COSTS}


@pytest.fixture(scope="module")
def finished(
    repository: Path, tiny_model: Path, gte: Gte, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("quickstart") / "out"
    gte(*arguments(repository, tiny_model, out))
    return out


def test_it_leaves_what_it_promises(finished: Path) -> None:
    for name in (
        "data/train.jsonl",
        "data/dev/corpus.jsonl",
        "data/dev/queries.jsonl",
        "data/dev/qrels/dev.tsv",
        "data/test/corpus.jsonl",
        "data/test/queries.jsonl",
        "data/test/qrels/test.tsv",
        "model/model.safetensors",
        "model/modules.json",
        "onnx/model.onnx",
        "recipe.resolved.yaml",
        "environment.json",
        "report.html",
        "summary.json",
    ):
        assert (finished / name).is_file(), name
    assert (finished / "index").is_dir()


def test_the_summary_has_every_promised_number(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    systems = {"bm25", "base", "hybrid_base", "stage1", "final", "hybrid_final"}
    assert set(summary["systems"]) == systems
    for row in summary["systems"].values():
        assert set(row) == {"mrr@10", "ndcg@10", "recall@10", "ci95"}
        low, high = row["ci95"]
        assert 0 <= low <= row["mrr@10"] <= high <= 1
    slices = {"all", "name_masked", "low_overlap", "unseen_package", "general"}
    assert set(summary["slices"]) == slices
    assert summary["slices"]["all"]["base"]["mrr@10"] == summary["systems"]["base"]["mrr@10"]
    difference = summary["systems"]["final"]["mrr@10"] - summary["systems"]["base"]["mrr@10"]
    assert summary["paired_difference"]["mean"] == pytest.approx(difference, abs=2e-4)
    assert summary["overlap"] == {"exact": 0, "near": 0}
    assert summary["num_test_queries"] == 120
    assert summary["num_pool_documents"] <= 400
    assert summary["num_train_tokens"] > 50_000
    for name in (*COSTS, "truncated_share", "num_train_pairs"):
        assert summary[name] >= 0


def test_training_lowers_the_loss_of_the_largest_source(finished: Path) -> None:
    stage = json.loads((finished / "stages/pretrain/stage.json").read_text(encoding="utf-8"))
    facts = stage["facts"]
    assert facts["num_tokens"] == pytest.approx(60_000, rel=0.15)
    assert facts["last_losses"]["docstring-code"] < facts["first_losses"]["docstring-code"] - 0.02


def test_no_group_of_the_test_set_trains(finished: Path) -> None:
    groups = set()
    for line in (finished / "data/train.jsonl").read_text(encoding="utf-8").splitlines():
        groups.add(json.loads(line)["group"])
    held = json.loads((finished / "data/test/slices.json").read_text(encoding="utf-8"))["groups"]
    assert held
    assert not groups & set(held.values())


def test_the_model_gives_the_same_vectors_in_sentence_transformers(finished: Path) -> None:
    from sentence_transformers import SentenceTransformer

    import opengte

    texts = ["Decode a JSON document.", "def f(x):\n    return x + 1", "a " * 300]
    theirs = SentenceTransformer(str(finished / "model")).encode(texts, normalize_embeddings=True)
    for backend in ("model", "onnx"):
        ours = opengte.load(finished / backend).encode(texts)
        cosines = np.sum(ours * theirs, axis=1)
        assert cosines.min() > 0.9999, backend


def test_the_same_command_again_runs_nothing(
    finished: Path, repository: Path, tiny_model: Path, gte: Gte
) -> None:
    before = metrics(finished)
    done = gte(*arguments(repository, tiny_model, finished))
    assert done.stderr.count("unchanged, kept") == 11
    assert metrics(finished) == before


def test_search_encode_and_evaluate_work_on_what_is_left(
    finished: Path, gte: Gte, tmp_path: Path
) -> None:
    found = gte("search", finished / "index", "decode a JSON document", "-k", "3")
    assert found.stdout.count("repository/") == 3
    gte("encode", finished / "data/test/corpus.jsonl", tmp_path / "v", "--model", finished / "onnx")
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    assert manifest["num_rows"] == len((tmp_path / "v" / "ids.txt").read_text().splitlines())
    gte(
        "evaluate", finished / "model", "--task", finished / "data/test",
        "--json", tmp_path / "scores.json",
    )  # fmt: skip
    scores = json.loads((tmp_path / "scores.json").read_text())["tasks"]
    summary = metrics(finished)["systems"]["final"]
    (row,) = scores.values()
    assert row["main_score"] == pytest.approx(summary["ndcg@10"], abs=0.005)
    # Whole packages are held out, and the model's folder says what it learned from.
    kept = json.loads((finished / "stages/select/stage.json").read_text())["facts"]["kept"]
    assert row.get("mark") == (None if kept["model"] == "base" else "zero-shot")
    learned = finished / "stages/pretrain/output/training_manifest.json"
    assert json.loads(learned.read_text())["num_pairs"] > 60


@pytest.mark.parametrize(
    "kills", [1, pytest.param(5, marks=pytest.mark.slow)], ids=["one kill", "five kills"]
)
def test_killed_at_random_moments_it_ends_with_the_same_metrics(
    kills: int,
    finished: Path,
    repository: Path,
    tiny_model: Path,
    gte: Gte,
    start_gte: Start,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    seconds = json.loads((finished / "summary.json").read_text())["seconds"] + 5
    seed = random.SystemRandom().randrange(10_000)
    delays = [random.Random(seed + i).uniform(2, seconds) for i in range(kills)]
    print(f"seed {seed}: killed after {[round(d, 1) for d in delays]} s")
    for delay in delays:
        process = start_gte(*arguments(repository, tiny_model, out))
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    gte(*arguments(repository, tiny_model, out))
    assert metrics(out) == metrics(finished)
    shutil.rmtree(out)
