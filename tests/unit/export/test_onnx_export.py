"""What export writes, the runtime reads, and both give the encoder's own vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.contracts import TextEncoder
from opengte.errors import ConfigError, ModelFolderError, OpenGTEError
from opengte.export import onnx as onnx_export
from opengte.export.check_texts import CHECK_TEXTS, of_many_lengths
from opengte.export.onnx import ParityReport, compare, export_onnx
from opengte.model_folder import ModelFolder, PoolingMode
from opengte.models.encoder import Encoder
from opengte.models.packing import pack
from opengte.models.pooling import pool
from opengte.runtime.onnx import OnnxEncoder
from opengte.text.prompts import Prompts
from opengte.text.truncation import TokenizedText

Make = Callable[..., Encoder]


@pytest.fixture(scope="module")
def exported(make_tiny_encoder: Make, tmp_path_factory) -> tuple[Encoder, OnnxEncoder]:
    encoder = make_tiny_encoder(
        prompts=Prompts(query="query: ", document="passage: "), matryoshka_dimensions=(8, 16)
    )
    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    report = export_onnx(encoder, folder)
    assert report.max_abs_difference < 1e-5
    return encoder, OnnxEncoder(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "cls", "normalise": False},
        {"pooling": "last_token"},
        {"pooling": "max"},
        {"pooling": "weighted_mean", "dense": (24,)},
        {"pooling": "mean_sqrt_length", "normalise": False},
        {"model_type": "xlm-roberta", "dense": (24, 40)},
        {"include_prompt": False, "prompts": Prompts(query="represent the query: ")},
    ],
    ids=lambda changes: "-".join(map(str, (changes.get("pooling"), *changes))),
)
def test_every_kind_of_encoder_keeps_its_vectors(make_tiny_encoder: Make, tmp_path, changes):
    encoder = make_tiny_encoder(**changes)
    report = export_onnx(encoder, tmp_path / "out")
    assert report.max_abs_difference < 1e-5
    assert report.min_cosine > 0.999999
    runtime = OnnxEncoder(tmp_path / "out")
    np.testing.assert_allclose(
        runtime.encode(CHECK_TEXTS, kind="query"),
        encoder.encode(CHECK_TEXTS, kind="query"),
        atol=2e-5,
    )
    assert runtime.space.dimensions == encoder.dimensions


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    skipped=st.integers(0, 3),
    mode=st.sampled_from(get_args(PoolingMode)),
    seed=st.integers(0, 99),
)
def test_padded_pooling_equals_packed_pooling(lengths, skipped, mode, seed):
    generator = torch.Generator().manual_seed(seed)
    texts = [
        TokenizedText(np.arange(n, dtype=np.int32), num_prompt_tokens=min(skipped, n - 1))
        for n in lengths
    ]
    packed = pack(texts, exclude_prompt_from_pooling=True)
    states = torch.randn(packed.num_tokens, 6, generator=generator)
    padded = torch.randn(len(lengths), max(lengths), 6, generator=generator)
    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, (text, start) in enumerate(zip(texts, packed.boundaries.tolist(), strict=False)):
        padded[row, : len(text)] = states[start : start + len(text)]
        mask[row, text.num_prompt_tokens : len(text)] = 1
    torch.testing.assert_close(
        onnx_export.pool_padded(padded, mask, mode=mode),
        pool(states, packed, mode=mode),
        atol=1e-5,
        rtol=1e-5,
    )


def test_exported_folder_is_a_model_folder_of_the_same_space(exported):
    encoder, runtime = exported
    assert isinstance(runtime, TextEncoder)
    ours, theirs = runtime.space, encoder.space
    assert ours.fingerprint == theirs.fingerprint
    folder = ModelFolder.read(runtime.folder.path)
    assert folder.onnx_file == folder.path / "model.onnx"
    assert folder.weight_files == ()
    folder.verify()


def test_prompts_lengths_and_truncation_are_the_encoders(exported):
    encoder, runtime = exported
    texts = of_many_lengths(CHECK_TEXTS, max_tokens=encoder.max_tokens)
    for options in (
        {"kind": "query"},
        {"kind": "document"},
        {"prompt": "other: "},
        {"truncate": "start", "kind": "query"},
        {"dimensions": 8},
    ):
        ours, theirs = runtime.embed(texts, **options), encoder.embed(texts, **options)
        np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-5)
        np.testing.assert_array_equal(ours.num_tokens, theirs.num_tokens)
        np.testing.assert_array_equal(ours.truncated, theirs.truncated)
    assert theirs.truncated.any()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_vector_does_not_depend_on_neighbours_or_their_order(exported, data):
    _, runtime = exported
    texts = st.text(alphabet="abc dé中,.0", max_size=60)
    batch = data.draw(st.lists(texts, min_size=1, max_size=9))
    order = data.draw(st.permutations(range(len(batch))))
    alone = np.concatenate([runtime.encode([text]) for text in batch])
    shuffled = runtime.encode([batch[i] for i in order])
    np.testing.assert_allclose(shuffled, alone[list(order)], atol=2e-6)


def test_vector_does_not_depend_on_threads_or_budget(exported):
    _, runtime = exported
    expected = runtime.encode(CHECK_TEXTS)
    for options in ({"num_threads": 2}, {"token_budget": 1}, {"token_budget": 100_000}):
        other = OnnxEncoder(runtime.folder.path, **options)
        np.testing.assert_allclose(other.encode(CHECK_TEXTS), expected, atol=2e-6)


def test_runtime_needs_no_torch(exported):
    _, runtime = exported
    code = (
        "import sys; from opengte.runtime.onnx import OnnxEncoder;"
        f"v = OnnxEncoder({str(runtime.folder.path)!r}).encode(['one text']);"
        "assert v.shape == (1, 32); bad = {'torch', 'transformers'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_difference_leaves_nothing_behind(make_tiny_encoder: Make, tmp_path, monkeypatch):
    worse = ParityReport(max_abs_difference=0.02, min_cosine=0.99, num_texts=3)
    monkeypatch.setattr(onnx_export, "compare", lambda *_: worse)
    with pytest.raises(OpenGTEError, match=r"differs from the model by 2.00e-02, more than 1e-04"):
        export_onnx(make_tiny_encoder(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_nan_does_not_pass_as_parity(make_tiny_encoder: Make, tmp_path, monkeypatch):
    broken = ParityReport(max_abs_difference=float("nan"), min_cosine=1.0, num_texts=3)
    monkeypatch.setattr(onnx_export, "compare", lambda *_: broken)
    with pytest.raises(OpenGTEError, match="differs from the model by nan"):
        export_onnx(make_tiny_encoder(), tmp_path / "out")


def test_older_export_survives_a_failed_one(
    exported, make_tiny_encoder: Make, tmp_path, monkeypatch
):
    encoder, _ = exported
    export_onnx(encoder, tmp_path / "out")
    before = OnnxEncoder(tmp_path / "out").encode(["kept"])
    worse = ParityReport(max_abs_difference=1.0, min_cosine=0.0, num_texts=1)
    monkeypatch.setattr(onnx_export, "compare", lambda *_: worse)
    with pytest.raises(OpenGTEError, match="differs"):
        export_onnx(make_tiny_encoder(), tmp_path / "out")
    np.testing.assert_array_equal(OnnxEncoder(tmp_path / "out").encode(["kept"]), before)


def test_parity_sees_a_graph_of_other_weights(exported, make_tiny_encoder: Make):
    _, runtime = exported
    other = make_tiny_encoder()
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    report = compare(other, runtime, CHECK_TEXTS)
    assert report.max_abs_difference > 1e-3
    assert report.num_texts == len(CHECK_TEXTS)


def test_check_texts_reach_beyond_the_window():
    texts = of_many_lengths(CHECK_TEXTS, max_tokens=100)
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) == 1
    assert max(lengths) > 100
    assert len(set(lengths)) >= 8


def test_training_state_and_number_format_are_left_as_they_were(make_tiny_encoder: Make, tmp_path):
    encoder = make_tiny_encoder(dense=(8,))
    encoder.compute_dtype = "bfloat16"
    encoder.train()
    export_onnx(encoder, tmp_path / "out")
    assert encoder.compute_dtype == "bfloat16"
    assert encoder.training


def test_altered_graph_is_refused(exported, tmp_path):
    encoder, _ = exported
    folder = tmp_path / "out"
    export_onnx(encoder, folder)
    graph = bytearray((folder / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (folder / "model.onnx").write_bytes(bytes(graph))
    with pytest.raises(ModelFolderError, match="altered since it was written"):
        OnnxEncoder(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelFolderError, match=r"model.safetensors is missing"):
        OnnxEncoder(folder)


def test_graph_is_the_same_for_the_same_weights(exported, make_tiny_encoder: Make, tmp_path):
    encoder, runtime = exported
    export_onnx(encoder, tmp_path / "again")
    manifests = [
        json.loads((Path(folder) / "opengte.json").read_text())
        for folder in (runtime.folder.path, tmp_path / "again")
    ]
    assert manifests[0] == manifests[1]


def test_old_opset_is_refused(make_tiny_encoder: Make, tmp_path):
    with pytest.raises(ConfigError, match="opset must be >= 17, got 11"):
        export_onnx(make_tiny_encoder(), tmp_path / "out", opset=11)
