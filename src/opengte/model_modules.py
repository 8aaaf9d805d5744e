"""The chain of modules of a sentence-transformers folder: pooling, dense layers, normalisation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from opengte.errors import ModelFolderError
from opengte.model_files import read_json, weight_files
from opengte.safetensors_header import read_safetensors_header

PoolingMode = Literal["mean", "cls", "last_token", "weighted_mean", "max", "mean_sqrt_length"]

POOLING_NAMES: dict[str, PoolingMode] = {
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "last_token",
    "weightedmean": "weighted_mean",
    "mean_sqrt_len_tokens": "mean_sqrt_length",
}
LEGACY_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
}
LATENT_ATTENTION = "opengte.LatentAttention"
"""A module that sentence-transformers does not have, and so refuses to load without."""
MODULE_KINDS = {
    "Transformer": "transformer",
    LATENT_ATTENTION: "latent_attention",
    "Pooling": "pooling",
    "Dense": "dense",
    "Normalize": "normalise",
}


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A linear layer after pooling.

    Attributes:
        path: its safetensors file, with ``linear.weight`` and perhaps ``linear.bias``.
        in_features, out_features: sizes of its input and output.
        bias: whether it has one.
        activation: ``identity``, ``tanh``, ``relu`` or ``gelu``.
    """

    path: Path
    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "tanh"


def read_modules(path: Path) -> list[tuple[str, Path]]:
    """The chain of modules as (kind, folder); empty for a plain transformers folder.

    Raises:
        ModelFolderError: a module that is not known, outside the folder, or out of order.
    """
    file = path / "modules.json"
    if not file.is_file():
        return []
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        found = [(entry["type"], entry["path"]) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"must be a list of modules with 'type' and 'path': {error!r}", path=file
        ) from error
    modules = []
    for type_name, sub_path in found:
        theirs = type_name.startswith("sentence_transformers.")
        kind = MODULE_KINDS.get(type_name.rpartition(".")[2] if theirs else type_name)
        if kind is None:
            known = ", ".join(MODULE_KINDS)
            raise ModelFolderError(f"unknown module type {type_name!r}; known: {known}", path=file)
        folder = (path / sub_path).resolve()
        if not folder.is_relative_to(path.resolve()):
            raise ModelFolderError(f"module path {sub_path!r} leaves the folder", path=file)
        modules.append((kind, path / sub_path))
    _check_order([kind for kind, _ in modules], file)
    return modules


def _check_order(kinds: list[str], file: Path) -> None:
    ranks = [list(MODULE_KINDS.values()).index(kind) for kind in kinds]
    alone = all(kinds.count(kind) == 1 for kind in ("transformer", "pooling"))
    repeated = any(kinds.count(kind) > 1 for kind in ("latent_attention", "normalise"))
    if ranks != sorted(ranks) or not alone or repeated:
        raise ModelFolderError(
            f"modules must be Transformer, Pooling, perhaps Dense and Normalize; found {kinds}",
            path=file,
        )


def read_pooling(folders: list[Path], *, default: PoolingMode) -> tuple[PoolingMode, bool]:
    """How token states become one vector, and whether the prompt's tokens take part."""
    if not folders:
        return default, True
    config = read_json(folders[0] / "config.json", required=True)
    named = config.get("pooling_mode")
    if named is None:
        named = [mode for key, mode in LEGACY_POOLING_KEYS.items() if config.get(key)] or ["mean"]
    modes = [named] if isinstance(named, str) else list(named)
    if len(modes) != 1 or modes[0] not in POOLING_NAMES:
        known = ", ".join(POOLING_NAMES)
        raise ModelFolderError(
            f"pooling must be one of {known}; found {modes}", path=folders[0] / "config.json"
        )
    return POOLING_NAMES[modes[0]], bool(config.get("include_prompt", True))


def read_dense(folder: Path) -> DenseLayer:
    """One ``Dense`` module.

    Raises:
        ModelFolderError: an activation or a form that is not known, or weights that do not fit.
    """
    config = read_json(folder / "config.json", required=True)
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ModelFolderError(
            f"unknown activation {name!r}; known: {known}", path=folder / "config.json"
        )
    plain = config.get("module_input_name", "sentence_embedding") == "sentence_embedding"
    if config.get("use_residual") or not plain:
        raise ModelFolderError(
            "only a plain Dense layer on the sentence embedding is known",
            path=folder / "config.json",
        )
    (file,) = weight_files(folder, required=True)
    shapes = {key: entry["shape"] for key, entry in read_safetensors_header(file).items()}
    expected = [int(config.get("out_features", 0)), int(config.get("in_features", 0))]
    if shapes.get("linear.weight") != expected:
        raise ModelFolderError(
            f"'linear.weight' must have shape {expected}, found {shapes.get('linear.weight')}",
            path=file,
        )
    return DenseLayer(file, expected[1], expected[0], "linear.bias" in shapes, ACTIVATIONS[name])


assert set(POOLING_NAMES.values()) == set(get_args(PoolingMode))
