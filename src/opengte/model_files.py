"""The files of a model folder: JSON, safetensors and their hashes; what would be run is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opengte.errors import ModelFolderError
from opengte.safetensors_header import read_safetensors_header

REIMPLEMENTED = {
    "new": "Alibaba-NLP/new-impl--",
    "nomic_bert": "nomic-ai/nomic-bert-2048--",
    "nvembed": ("modeling_nvembed.", "configuration_nvembed."),
}
"""Released checkpoints that name code of their own which we have in ours: the code named under
``auto_map`` is not fetched and not run."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


def read_json(path: Path, *, required: bool = False) -> dict[str, Any]:
    """A JSON object; empty when the file is not there and not ``required``."""
    if not path.is_file():
        if required:
            raise ModelFolderError(f"{path.name} is missing; is this a model?", path=path.parent)
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFolderError(f"not valid JSON: {error}", path=path) from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"must hold a JSON object, found {type(value).__name__}", path=path)
    return value


def read_architecture(folder: Path) -> dict[str, Any]:
    """The contents of ``config.json``.

    Raises:
        ModelFolderError: it asks to run code, or its weights are quantised.
    """
    config = read_json(folder / "config.json", required=True)
    if "model_type" not in config:
        raise ModelFolderError(
            "no 'model_type'; is this a transformers config?", path=folder / "config.json"
        )
    if config.get("quantization_config"):
        raise ModelFolderError(
            "its weights are quantised (quantization_config); use the original checkpoint",
            path=folder / "config.json",
        )
    code = config.get("auto_map")
    if code:
        known = REIMPLEMENTED.get(config["model_type"])
        names = [
            name
            for value in code.values()
            for name in ([value] if isinstance(value, str) else value)
        ]
        if known is None or not all(str(name).startswith(tuple(known)) for name in names):
            raise ModelFolderError(
                f"asks to run its own model code (auto_map: {', '.join(map(str, names))}), which "
                "is never done; use a checkpoint that transformers has built in",
                path=folder / "config.json",
            )
    return config


def weight_files(folder: Path, *, required: bool) -> tuple[Path, ...]:
    """The safetensors files of a folder, each checked for being whole.

    Raises:
        ModelFolderError: there are none and they are ``required``, or one is damaged.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    elif index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        files = [folder / str(name) for name in names]
        outside = [file for file in files if file.parent != folder]
        missing = [file.name for file in files if not file.is_file()]
        if outside or missing or not files:
            named = ", ".join(missing or map(str, outside)) or "none listed"
            raise ModelFolderError(f"weight files are missing: {named}", path=index)
    else:
        files = []
    if not files and required:
        raise _missing_weights(folder)
    for file in files:
        read_safetensors_header(file)
    return tuple(files)


def _missing_weights(folder: Path) -> ModelFolderError:
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        return ModelFolderError(
            f"its weights are pickles ({', '.join(pickles)}), which can run code and are never "
            "opened; convert them to model.safetensors where you trust their origin",
            path=folder,
        )
    return ModelFolderError("no weights: model.safetensors is missing", path=folder)


def revision_digest(tensors: Mapping[str, bytes], tokenizer: bytes) -> str:
    """SHA-256 over the hashes of named tensors and the contents of ``tokenizer.json``."""
    digest = hashlib.sha256(hashlib.sha256(tokenizer).digest())
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0" + tensors[name])
    return digest.hexdigest()


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
