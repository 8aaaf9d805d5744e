"""Model folders -> encoders: safetensors and JSON only, no weight missing and none unknown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from opengte.errors import ModelFolderError
from opengte.model_files import read_json
from opengte.model_folder import ModelFolder
from opengte.model_modules import DenseLayer, PoolingMode
from opengte.models.backbone import Backbone
from opengte.models.building import build_backbone
from opengte.models.config import Delimiters, EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.folder_writer import SPARSE_HEAD, save_encoder
from opengte.models.heads import Dense
from opengte.models.latent_attention import LatentAttention, LatentAttentionConfig
from opengte.models.nv_embed import split_released
from opengte.models.sparse import SparseHead
from opengte.text.tokenizer import Tokenizer

__all__ = ["load_encoder", "load_tensors", "read_tensors", "save_encoder", "settings_of"]

WEIGHT_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_encoder(
    path: str | Path,
    *,
    max_tokens: int | None = None,
    dropout: float | tuple[float, float] | None = None,
    dtype: str = "auto",
    device: str | torch.device = "cpu",
    pooling: PoolingMode | None = None,
    normalise: bool | None = None,
    weight_dtype: str = "float32",
    through_transformers: bool = False,
) -> Encoder:
    """Read an encoder from a sentence-transformers or transformers folder.

    Args:
        path: the folder.
        max_tokens: shorter (or longer, up to its positions) inputs than the folder says.
        dropout: of hidden states and attention while training; the model's own by default.
        dtype: number format of activations: ``auto``, ``float32``, ``bfloat16``.
        device: where to put the weights.
        pooling: for plain transformers folders; the mean by default.
        normalise: likewise; not by default.
        weight_dtype: number format of the weights; ``bfloat16`` halves the memory of large
            models that are only read, or trained through adapters.
        through_transformers: take transformers' BERT instead of our faster one.

    Raises:
        ModelFolderError: something is missing, damaged, unknown, or would have to be run.
    """
    folder = ModelFolder.read(path, pooling=pooling, normalise=normalise)
    folder.verify()
    if not folder.weight_files:
        raise ModelFolderError("has no safetensors weights; open it with its runtime", path=path)
    if weight_dtype not in WEIGHT_DTYPES:
        known = ", ".join(WEIGHT_DTYPES)
        raise ModelFolderError(f"weight_dtype must be one of {known}, got {weight_dtype!r}")
    try:
        backbone, latent, sparse = _load_parts(
            folder, WEIGHT_DTYPES[weight_dtype], through_transformers=through_transformers
        )
    except ModelFolderError as error:
        raise error if error.path else ModelFolderError(error.message, path=path) from error
    encoder = Encoder(
        backbone,
        Tokenizer.from_folder(folder.backbone_path, lower_case=folder.lower_case),
        settings_of(folder),
        latent_attention=latent,
        sparse_head=sparse,
        dense=[_load_dense(layer) for layer in folder.dense_layers],
        compute_dtype=dtype,
        revision=folder.revision,
    )
    if max_tokens is not None:
        encoder.max_tokens = max_tokens
    if dropout is not None:
        encoder.dropout = dropout
    return encoder.to(device)


def settings_of(folder: ModelFolder) -> EncoderSettings:
    """The settings that a folder states."""
    return EncoderSettings(
        name=folder.path.resolve().name,
        pooling=folder.pooling,
        include_prompt=folder.include_prompt,
        normalise=folder.normalise,
        max_tokens=folder.max_tokens,
        prompts=folder.prompts,
        matryoshka_dimensions=folder.matryoshka_dimensions,
        query_delimiters=_delimiters(folder.manifest.get("query_delimiters")),
        document_delimiters=_delimiters(folder.manifest.get("document_delimiters")),
    )


def load_tensors(folder: ModelFolder) -> dict[str, Tensor]:
    """All weights of a folder's backbone, mapped from its files."""
    tensors: dict[str, Tensor] = {}
    for file in folder.weight_files:
        tensors.update(load_file(file))
    return tensors


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All weights of the backbone in ``path``, those of heads that encoders leave out included."""
    return load_tensors(ModelFolder.read(path))


def _load_parts(
    folder: ModelFolder, dtype: torch.dtype, *, through_transformers: bool
) -> tuple[Backbone, LatentAttention | None, SparseHead | None]:
    config, tensors = dict(folder.architecture), load_tensors(folder)
    latent = None if folder.latent_attention is None else _load_latent(folder.latent_attention)
    if config["model_type"] == "nvembed":
        config, tensors, latent = split_released(config, tensors)
    sparse = _load_sparse(folder, config, tensors)
    backbone = build_backbone(
        config, tensors, dtype=dtype, through_transformers=through_transformers
    )
    return backbone, latent, sparse


def _load_latent(path: Path) -> LatentAttention:
    sizes = read_json(path / "config.json", required=True)
    layer = LatentAttention(LatentAttentionConfig(**sizes))
    _fill(layer, load_file(path / "model.safetensors"), path)
    return layer


def _load_sparse(
    folder: ModelFolder, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> SparseHead | None:
    """Our own sparse head, or mGTE's as released: a token classifier of one class."""
    ignored = folder.manifest.get("sparse_head", {}).get("ignored_ids", ())
    file = folder.backbone_path / SPARSE_HEAD
    if file.is_file():
        found = load_file(file)
    elif _is_token_classifier(config) and tensors["classifier.weight"].shape[0] == 1:
        found = {f"linear.{kind}": tensors[f"classifier.{kind}"] for kind in ("weight", "bias")}
        ignored = _special_ids(folder)
    else:
        return None
    head = SparseHead(found["linear.weight"].shape[1], ignored_ids=ignored)
    _fill(head, found, folder.path)
    return head


def _is_token_classifier(config: Mapping[str, Any]) -> bool:
    names = config.get("architectures") or [""]
    return str(names[0]).endswith("ForTokenClassification") and "num_labels" not in config


def _special_ids(folder: ModelFolder) -> list[int]:
    tokenizer = Tokenizer.from_folder(folder.backbone_path)
    roles = ("cls_token", "bos_token", "eos_token", "sep_token", "pad_token", "unk_token")
    return sorted({i for role in roles if (i := tokenizer.token_id(role)) is not None})


def _load_dense(described: DenseLayer) -> Dense:
    layer = Dense(
        described.in_features,
        described.out_features,
        bias=described.bias,
        activation=described.activation,
    )
    _fill(layer, load_file(described.path), described.path)
    return layer


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if found != expected:
        names = sorted(n for n in {*expected, *found} if expected.get(n) != found.get(n))
        raise ModelFolderError(
            f"weight {names[0]} has shape {found.get(names[0])}, config.json asks for "
            f"{expected.get(names[0])}",
            path=path,
        )
    module.load_state_dict({name: value.float() for name, value in tensors.items()})


def _delimiters(value: Any) -> Delimiters | None:
    return None if value is None else (tuple(value[0]), tuple(value[1]))
