"""The exported default model against sentence-transformers on real texts, and its start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opengte.runtime.onnx import OnnxEncoder

SLICE = Path(__file__).resolve().parents[2] / "src/opengte/recipes/general/corpus.jsonl"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(minilm_folder: Path, tmp_path_factory) -> OnnxEncoder:
    from opengte.export.onnx import export_onnx
    from opengte.models.weights import load_encoder

    folder = tmp_path_factory.mktemp("onnx") / "minilm"
    report = export_onnx(load_encoder(minilm_folder), folder)
    assert report.max_abs_difference < 1e-5
    return OnnxEncoder(folder)


def real_texts(num: int) -> list[str]:
    lines = SLICE.read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines[:: len(lines) // num]][:num]
    return [*texts, " ".join(texts), "", "向量检索", "x" * 3000]


def test_vectors_are_those_of_sentence_transformers(exported, minilm_folder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(minilm_folder), device="cpu")
    texts = real_texts(60)
    expected = theirs.encode(texts, normalize_embeddings=True, batch_size=8)
    np.testing.assert_allclose(exported.encode(texts), expected, atol=1e-5)


def test_vectors_do_not_depend_on_neighbours(exported):
    texts = real_texts(24)
    alone = np.concatenate([exported.encode([text]) for text in texts])
    np.testing.assert_allclose(exported.encode(texts), alone, atol=1e-6)


def test_a_process_is_ready_within_one_processor_second(exported):
    code = (
        "import time; from opengte.runtime.onnx import OnnxEncoder;"
        f"OnnxEncoder({str(exported.folder.path)!r}).encode(['a text']); print(time.process_time())"
    )
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(runs) < 1.0
