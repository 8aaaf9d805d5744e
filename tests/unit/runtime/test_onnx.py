"""The ONNX runtime on graphs made by hand, as other tools write them; no torch anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from opengte.errors import ConfigError, ModelFolderError, OpenGTEError, UserError
from opengte.model_folder import DenseLayer
from opengte.runtime.onnx import OnnxEncoder
from opengte.runtime.pooling import apply_dense, pool

onnx = pytest.importorskip("onnx")
helper, dtypes = onnx.helper, onnx.TensorProto

WORDS = ["<pad>", "<unk>", "a", "b", "c", "d"]
TABLE = np.arange(1, 25, dtype=np.float32).reshape(6, 4) / 7


def word_graph(
    *,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
    output: str = "last_hidden_state",
    table: np.ndarray = TABLE,
) -> Any:
    """A graph whose token states are the rows of a table: easy to compute by hand."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], [output])]
    shape = ["n", "l", 4]
    if output == "pooler_output":
        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["states"]),
            helper.make_node("ReduceMax", ["states"], [output], axes=[1], keepdims=0),
        ]
        shape = ["n", 4]
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info(name, dtypes.INT64, ["n", "l"]) for name in inputs],
        [helper.make_tensor_value_info(output, dtypes.FLOAT, shape)],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def write_folder(path: Path, *, graph: Any = None, pooling: str = "mean", modules: int = 3) -> Path:
    """A sentence-transformers folder with ``onnx/model.onnx`` and no other weights."""
    (path / "onnx").mkdir(parents=True)
    (path / "1_Pooling").mkdir()
    onnx.save(graph or word_graph(), path / "onnx/model.onnx")
    backend = tokenizers.Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(path / "tokenizer.json"))
    names = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    files = {
        "config.json": {"model_type": "bert", "hidden_size": 4},
        "tokenizer_config.json": {"pad_token": "<pad>"},
        "sentence_bert_config.json": {"max_seq_length": 5},
        "1_Pooling/config.json": {"pooling_mode": pooling},
        "config_sentence_transformers.json": {"prompts": {"query": "a "}},
        "modules.json": [
            {"idx": i, "path": folder, "type": f"sentence_transformers.models.{kind}"}
            for i, (folder, kind) in enumerate(names[:modules])
        ],
    }
    for name, value in files.items():
        (path / name).write_text(json.dumps(value), encoding="utf-8")
    return path


def mean_of(*words: str) -> np.ndarray:
    vector = np.mean([TABLE[WORDS.index(word)] for word in words], axis=0)
    return vector / np.linalg.norm(vector)


def test_graph_without_pooling_is_pooled_and_normalised_here(tmp_path):
    encoder = OnnxEncoder(write_folder(tmp_path / "m"))
    np.testing.assert_allclose(
        encoder.encode(["a b", "d", "c c d a"]),
        [mean_of("a", "b"), mean_of("d"), mean_of("c", "c", "d", "a")],
        atol=1e-6,
    )
    np.testing.assert_allclose(encoder.encode(["b"], kind="query"), [mean_of("a", "b")], atol=1e-6)


def test_token_types_are_fed_where_the_graph_asks_for_them(tmp_path):
    graph = word_graph(inputs=("input_ids", "attention_mask", "token_type_ids", "position_ids"))
    encoder = OnnxEncoder(write_folder(tmp_path / "m", graph=graph))
    np.testing.assert_allclose(encoder.encode(["a b"]), [mean_of("a", "b")], atol=1e-6)


def test_folder_without_normalisation_keeps_lengths(tmp_path):
    encoder = OnnxEncoder(write_folder(tmp_path / "m", modules=2))
    np.testing.assert_allclose(encoder.encode(["a b"]), [(TABLE[2] + TABLE[3]) / 2], atol=1e-6)
    assert not encoder.space.normalised


def test_truncation_is_reported_and_none_is_an_error(tmp_path):
    encoder = OnnxEncoder(write_folder(tmp_path / "m"))
    found = encoder.embed(["a b c d a b c", "a"])
    assert found.truncated.tolist() == [True, False]
    assert found.num_tokens.tolist() == [5, 1]
    np.testing.assert_allclose(found.vectors[0], mean_of("a", "b", "c", "d", "a"), atol=1e-6)
    with pytest.raises(UserError, match="text 1 has 7 tokens, the model reads 5; shorten it"):
        encoder.encode(["a", "a b c d a b c"], truncate="none")


def test_lower_max_tokens_are_part_of_the_space(tmp_path):
    folder = write_folder(tmp_path / "m")
    assert OnnxEncoder(folder, max_tokens=2).encode(["a b c"]) == pytest.approx(
        mean_of("a", "b")[None]
    )
    spaces = {OnnxEncoder(folder, max_tokens=n).space.fingerprint for n in (2, 3, None)}
    assert len(spaces) == 3
    for wrong in (0, 6):
        with pytest.raises(ConfigError, match="max_tokens must be between 1 and the 5 of the"):
            OnnxEncoder(folder, max_tokens=wrong)


def test_error_names_the_text_without_tokens(tmp_path):
    encoder = OnnxEncoder(write_folder(tmp_path / "m"))
    with pytest.raises(UserError, match="text 1 is empty: there is nothing to embed"):
        encoder.encode(["a", " "])


def test_vectors_that_are_not_finite_or_zero_are_never_handed_out(tmp_path):
    for number, bad in enumerate((np.nan, 0.0)):
        table = TABLE.copy()
        table[WORDS.index("d")] = bad
        folder = write_folder(tmp_path / str(number), graph=word_graph(table=table))
        with pytest.raises(OpenGTEError, match="no usable vector for text 2"):
            OnnxEncoder(folder).encode(["a", "b", "d", "c"])


def test_undeclared_dimensions_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"dimensions must be one .* trained for \(4\), got 2"):
        OnnxEncoder(write_folder(tmp_path / "m")).encode(["a"], dimensions=2)


def test_graphs_that_cannot_be_understood_are_refused_by_name(tmp_path):
    strange = word_graph(inputs=("input_ids", "pixel_values"))
    with pytest.raises(ModelFolderError, match="asks for unknown inputs: pixel_values"):
        OnnxEncoder(write_folder(tmp_path / "in", graph=strange))
    pooled = word_graph(output="pooler_output")
    with pytest.raises(ModelFolderError, match="the graph gives pooler_output; expected sentence_"):
        OnnxEncoder(write_folder(tmp_path / "out", graph=pooled))


def test_damaged_and_missing_graphs_are_refused(tmp_path):
    folder = write_folder(tmp_path / "m")
    (folder / "onnx/model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelFolderError, match=r"model.onnx: ONNX Runtime cannot open it"):
        OnnxEncoder(folder)
    with pytest.raises(ModelFolderError, match="no such model folder"):
        OnnxEncoder(tmp_path / "absent")


def test_a_folder_of_weights_alone_says_how_to_get_a_graph(minilm_folder):
    with pytest.raises(ModelFolderError, match=r"no model.onnx; write one with opengte.export"):
        OnnxEncoder(minilm_folder)


def test_thread_number_must_be_positive(tmp_path):
    with pytest.raises(ConfigError, match="num_threads must be >= 1, got 0"):
        OnnxEncoder(tmp_path, num_threads=0)


def test_progress_counts_up_to_all_texts(tmp_path):
    encoder = OnnxEncoder(write_folder(tmp_path / "m"), token_budget=4)
    seen: list[tuple[int, int | None]] = []
    encoder.encode(["a b"] * 5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_no_texts_give_no_rows(tmp_path):
    found = OnnxEncoder(write_folder(tmp_path / "m")).embed([])
    assert found.vectors.shape == (0, 4)
    assert len(found.num_tokens) == len(found.truncated) == 0


STATES = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("mode", "of_one"),
    [
        ("mean", lambda rows, _: rows.mean(axis=0)),
        ("max", lambda rows, _: rows.max(axis=0)),
        ("cls", lambda rows, _: rows[0]),
        ("last_token", lambda rows, _: rows[-1]),
        ("mean_sqrt_length", lambda rows, _: rows.sum(axis=0) / np.sqrt(len(rows))),
        ("weighted_mean", lambda rows, at: np.average(rows, axis=0, weights=at + 1)),
    ],
)
def test_pooling_equals_its_definition(mode, of_one):
    expected = [
        of_one(states[mask == 1], np.flatnonzero(mask))
        for states, mask in zip(STATES, MASK, strict=True)
    ]
    np.testing.assert_allclose(pool(STATES, MASK, mode=mode), expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["identity", "tanh", "relu", "gelu"])
def test_dense_layer_equals_torch(tmp_path, activation):
    torch = pytest.importorskip("torch")
    from safetensors.numpy import save_file

    generator = np.random.default_rng(1)
    weight = generator.normal(size=(3, 4)).astype(np.float32)
    bias = generator.normal(size=3).astype(np.float32)
    save_file({"linear.weight": weight, "linear.bias": bias}, tmp_path / "model.safetensors")
    layer = DenseLayer(tmp_path / "model.safetensors", 4, 3, activation=activation)
    linear = torch.from_numpy(TABLE @ weight.T + bias)
    theirs = {"identity": lambda x: x, "gelu": torch.nn.functional.gelu}.get(
        activation, getattr(torch, activation, None)
    )
    assert theirs is not None
    np.testing.assert_allclose(apply_dense(layer, TABLE), theirs(linear).numpy(), atol=1e-5)


@pytest.mark.slow
def test_memory_does_not_grow_with_new_shapes(tmp_path):
    psutil = pytest.importorskip("psutil")
    encoder = OnnxEncoder(write_folder(tmp_path / "m"), token_budget=64)
    texts = [" ".join("abcd"[i % 4] for i in range(n % 5 + 1)) for n in range(4000)]
    encoder.encode(texts)
    before = psutil.Process().memory_info().rss
    for count in range(1, 60):
        encoder.encode(texts[: count * 37])
    assert psutil.Process().memory_info().rss - before < 20e6
