from __future__ import annotations

import hashlib
import json
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from opengte.errors import ModelFolderError
from opengte.model_folder import ModelFolder
from opengte.safetensors_header import read_safetensors_header, tensor_digests

CONFIG = {
    "model_type": "bert",
    "hidden_size": 4,
    "vocab_size": 3,
    "max_position_embeddings": 64,
}


@pytest.fixture
def folder(tmp_path):
    """A sentence-transformers folder with pooling, a dense layer and normalisation."""
    root = tmp_path / "model"
    for name in ("1_Pooling", "2_Dense", "3_Normalize"):
        (root / name).mkdir(parents=True)
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    write(root / "modules.json", [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ])  # fmt: skip
    write(root / "config.json", CONFIG)
    write(root / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    identity = "torch.nn.modules.linear.Identity"
    dense = {"in_features": 4, "out_features": 2, "activation_function": identity}
    write(root / "2_Dense" / "config.json", dense)
    weights = {"linear.weight": np.zeros((2, 4), np.float32)}
    save_file(weights, root / "2_Dense" / "model.safetensors")
    save_file({"w": np.arange(6, dtype=np.float32)}, root / "model.safetensors")
    (root / "tokenizer.json").write_text("{}")
    return root


def write(path, value):
    path.write_text(json.dumps(value))


def change(path, **changes):
    write(path, {**json.loads(path.read_text()), **changes})


def test_a_sentence_transformers_folder_is_read(folder):
    prompts = {"query": "q: ", "document": "", "sts": "s: "}
    write(folder / "config_sentence_transformers.json", {"prompts": prompts})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": True})
    model = ModelFolder.read(folder)
    assert (model.pooling, model.include_prompt, model.normalise) == ("cls", True, True)
    assert (model.max_tokens, model.lower_case) == (32, True)
    assert (model.hidden_size, model.dimensions) == (4, 2)
    assert model.prompts.by_task == {"sts": "s: "}
    assert model.dense_layers[0].activation == "identity"
    assert not model.dense_layers[0].bias
    space = model.space()
    assert (space.dimensions, space.normalised, space.query_prompt) == (2, True, "q: ")


def test_the_newer_pooling_form_is_read(folder):
    config = {"embedding_dimension": 4, "pooling_mode": "lasttoken", "include_prompt": False}
    write(folder / "1_Pooling" / "config.json", config)
    model = ModelFolder.read(folder)
    assert (model.pooling, model.include_prompt) == ("last_token", False)


def test_a_plain_transformers_folder_takes_the_mean(folder):
    (folder / "modules.json").unlink()
    model = ModelFolder.read(folder)
    assert (model.pooling, model.normalise, model.dense_layers) == ("mean", False, ())
    chosen = ModelFolder.read(folder, pooling="cls", normalise=True)
    assert (chosen.pooling, chosen.normalise) == ("cls", True)


@pytest.mark.parametrize(
    ("config", "tokenizer", "expected"),
    [
        ({}, {}, 64),
        ({}, {"model_max_length": 16}, 16),
        ({}, {"model_max_length": 10**30}, 64),
        ({"model_type": "roberta", "pad_token_id": 1}, {}, 62),
        ({"max_position_embeddings": None}, {}, 512),
    ],
)
def test_the_longest_input_is_what_model_and_tokenizer_allow(folder, config, tokenizer, expected):
    change(folder / "config.json", **config)
    write(folder / "tokenizer_config.json", tokenizer)
    assert ModelFolder.read(folder).max_tokens == expected


def test_the_real_minilm_is_what_its_checksum_says(minilm_folder):
    model = ModelFolder.read(minilm_folder)
    (weights,) = model.weight_files
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    space = model.space()
    assert (space.pooling, space.dimensions, space.max_tokens) == ("mean", 384, 256)


def test_the_revision_follows_weights_and_tokenizer_and_nothing_else(folder, tmp_path):
    before = ModelFolder.read(folder).revision
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change(copy / "config.json", note="another")
    assert ModelFolder.read(copy).revision == before
    (copy / "tokenizer.json").write_text("{ }")
    assert ModelFolder.read(copy).revision != before
    save_file({"w": np.ones(6, np.float32)}, folder / "model.safetensors")
    assert ModelFolder.read(folder).revision != before


def test_the_revision_does_not_depend_on_how_weights_are_spread_over_files(folder):
    tensors = {"a": np.ones(2, np.float32), "b": np.zeros(3, np.float16)}
    save_file(tensors, folder / "model.safetensors")
    whole = ModelFolder.read(folder).revision
    (folder / "model.safetensors").unlink()
    for name in tensors:
        save_file({name: tensors[name]}, folder / f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in tensors}}
    write(folder / "model.safetensors.index.json", index)
    assert ModelFolder.read(folder).revision == whole


def test_an_export_states_the_revision_of_its_origin(folder):
    write(folder / "opengte.json", {"exported_from_revision": "abc"})
    assert ModelFolder.read(folder).revision == "abc"


def test_a_digest_is_of_type_shape_and_bytes(tmp_path):
    same = np.arange(4, dtype=np.float32)
    save_file({"a": same, "b": same, "c": same.reshape(2, 2)}, tmp_path / "x.safetensors")
    digests = tensor_digests(tmp_path / "x.safetensors")
    assert digests["a"] == digests["b"] != digests["c"]


def test_verify_names_an_altered_file(folder):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    write(folder / "opengte.json", {"sha256": {"model.safetensors": digest}})
    ModelFolder.read(folder).verify()
    save_file({"w": np.ones(6, np.float32)}, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"model.safetensors: altered since it was written"):
        ModelFolder.read(folder).verify()


def test_verify_names_a_removed_file(folder):
    write(folder / "opengte.json", {"sha256": {"gone.safetensors": "00"}})
    with pytest.raises(ModelFolderError, match=r"gone.safetensors is missing"):
        ModelFolder.read(folder).verify()


def test_an_exported_folder_needs_no_safetensors(folder):
    (folder / "model.safetensors").unlink()
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"graph")
    model = ModelFolder.read(folder)
    assert model.onnx_file == folder / "onnx" / "model.onnx"
    assert model.weight_files == ()


# -- refusals -----------------------------------------------------------------------------------


def refused(folder, match):
    with pytest.raises(ModelFolderError, match=match):
        ModelFolder.read(folder)


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "none", "none: no such model folder")


def test_a_folder_that_is_no_model(tmp_path):
    refused(tmp_path, r"config.json is missing; is this a model\?")


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, r"model: no weights: model.safetensors is missing")


def test_pickled_weights_are_named_and_never_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, r"its weights are pickles \(pytorch_model.bin\), which can run code")


def test_a_pickle_under_the_name_of_safetensors(folder):
    (folder / "model.safetensors").write_bytes(b"\x80\x04\x95" + b"x" * 100)
    refused(folder, r"model.safetensors: not a safetensors file")


def test_weights_cut_short(folder):
    content = (folder / "model.safetensors").read_bytes()
    for end in (4, 20, len(content) - 1):
        (folder / "model.safetensors").write_bytes(content[:end])
        refused(folder, r"model.safetensors: (not a safetensors file, or )?cut short")


def test_weights_whose_bytes_do_not_fit_their_shape(folder):
    header = json.dumps({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}).encode()
    content = struct.pack("<Q", len(header)) + header + b"\0" * 8
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, r"damaged: a tensor's bytes do not fit its shape")


def test_a_header_that_is_no_table(folder):
    header = json.dumps({"w": [1, 2]}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelFolderError, match="not a safetensors file"):
        read_safetensors_header(folder / "model.safetensors")


def test_a_shard_that_is_missing(folder):
    (folder / "model.safetensors").unlink()
    write(folder / "model.safetensors.index.json", {"weight_map": {"w": "b.safetensors"}})
    refused(folder, r"weight files are missing: b.safetensors")


def test_a_shard_outside_the_folder(folder):
    (folder / "model.safetensors").rename(folder.parent / "x.safetensors")
    write(folder / "model.safetensors.index.json", {"weight_map": {"w": "../x.safetensors"}})
    refused(folder, "weight files are missing")


def test_model_code_is_refused(folder):
    change(folder / "config.json", auto_map={"AutoModel": "someone/repo--modeling.Model"})
    refused(folder, r"asks to run its own model code \(auto_map: someone/repo--modeling.Model\)")


def test_code_that_we_have_of_our_own_is_not_needed(folder):
    name = "Alibaba-NLP/new-impl--modeling.NewModel"
    change(folder / "config.json", model_type="new", auto_map={"AutoModel": name})
    assert ModelFolder.read(folder).architecture["model_type"] == "new"
    change(folder / "config.json", auto_map={"AutoModel": "someone/new-impl--modeling.NewModel"})
    refused(folder, "asks to run its own model code")


def test_quantised_weights_are_refused(folder):
    change(folder / "config.json", quantization_config={"quant_method": "awq"})
    refused(folder, r"its weights are quantised \(quantization_config\)")


def test_an_unknown_module_is_named(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "someone.module.Evil"
    write(folder / "modules.json", modules)
    refused(folder, r"modules.json: unknown module type 'someone.module.Evil'; known: Transformer")


def test_a_module_outside_the_folder(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["path"] = "../elsewhere"
    write(folder / "modules.json", modules)
    refused(folder, "module path '../elsewhere' leaves the folder")


def test_modules_out_of_order(folder):
    modules = json.loads((folder / "modules.json").read_text())
    write(folder / "modules.json", modules[::-1])
    refused(folder, "modules must be Transformer, Pooling, perhaps Dense and Normalize; found")


@pytest.mark.parametrize("content", ["{", "[1]", '[{"type": 1}]'])
def test_broken_modules(folder, content):
    (folder / "modules.json").write_text(content)
    refused(folder, "modules.json: must be a list of modules with 'type' and 'path'")


def test_broken_json_names_the_file(folder):
    (folder / "config.json").write_text("{")
    refused(folder, r"config.json: not valid JSON")
    (folder / "config.json").write_text("[]")
    refused(folder, r"config.json: must hold a JSON object, found list")


def test_a_config_without_a_type(folder):
    write(folder / "config.json", {"hidden_size": 4})
    refused(folder, r"no 'model_type'; is this a transformers config\?")


def test_two_poolings_at_once(folder):
    config = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    write(folder / "1_Pooling" / "config.json", config)
    refused(folder, r"pooling must be one of mean, cls.*; found \['cls', 'mean'\]")


def test_an_unknown_activation(folder):
    change(folder / "2_Dense" / "config.json", activation_function="os.system")
    refused(folder, "unknown activation 'os.system'")


def test_a_residual_dense_layer(folder):
    change(folder / "2_Dense" / "config.json", use_residual=True)
    refused(folder, "only a plain Dense layer on the sentence embedding is known")


def test_a_dense_layer_of_another_shape(folder):
    change(folder / "2_Dense" / "config.json", out_features=3)
    refused(folder, r"'linear.weight' must have shape \[3, 4\], found \[2, 4\]")


def test_a_config_without_a_size(folder):
    write(folder / "config.json", {"model_type": "bert"})
    (folder / "modules.json").unlink()
    with pytest.raises(ModelFolderError, match="names none of hidden_size, d_model"):
        _ = ModelFolder.read(folder).dimensions
