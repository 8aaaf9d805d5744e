"""Model folders -> encoders and back: safetensors and JSON only, no weight missing or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from opengte.atomic import atomic_folder, write_json
from opengte.errors import ModelFolderError
from opengte.model_folder import MANIFEST, ModelFolder, file_digest
from opengte.model_modules import LEGACY_POOLING_KEYS, POOLING_NAMES, DenseLayer, PoolingMode
from opengte.models.backbone import Backbone
from opengte.models.building import build_backbone
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.fingerprint import backbone_checkpoint
from opengte.models.heads import Dense
from opengte.text.tokenizer import Tokenizer

MODULE_TYPE = "sentence_transformers.models."


def load_encoder(
    path: str | Path,
    *,
    max_tokens: int | None = None,
    dropout: float | tuple[float, float] | None = None,
    dtype: str = "auto",
    device: str | torch.device = "cpu",
    pooling: PoolingMode | None = None,
    normalise: bool | None = None,
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

    Raises:
        ModelFolderError: something is missing, damaged, unknown, or would have to be run.
    """
    folder = ModelFolder.read(path, pooling=pooling, normalise=normalise)
    folder.verify()
    if not folder.weight_files:
        raise ModelFolderError("has no safetensors weights; open it with its runtime", path=path)
    encoder = Encoder(
        _load_backbone(folder),
        Tokenizer.from_folder(folder.backbone_path, lower_case=folder.lower_case),
        settings_of(folder),
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


def save_encoder(encoder: Encoder, folder: str | Path) -> None:
    """Write an encoder in the sentence-transformers layout, in one step.

    Other tools read it: weights under transformers' names in safetensors, the tokenizer's files
    unchanged, pooling, dense layers and normalisation as modules. What that layout has no place
    for stands in ``opengte.json``, with the SHA-256 of the weights and the tokenizer.
    """
    settings = replace(encoder.settings, max_tokens=encoder.max_tokens)
    with atomic_folder(folder) as target:
        _save_tensors(backbone_checkpoint(encoder.backbone), target / "model.safetensors")
        write_json(target / "config.json", encoder.backbone.config)
        encoder.tokenizer.save(target)
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        write_json(target / "1_Pooling" / "config.json", _pooling_config(encoder))
        for i, layer in enumerate(encoder.dense):
            name = f"{len(modules)}_Dense"
            _save_tensors(layer.state_dict(), target / name / "model.safetensors")
            write_json(target / name / "config.json", encoder.dense[i].describe())  # type: ignore[operator]
            modules.append((name, "Dense"))
        if settings.normalise:
            modules.append((f"{len(modules)}_Normalize", "Normalize"))
        _write_layout(target, modules, settings, lower_case=encoder.tokenizer.lower_case)
        write_json(target / MANIFEST, _manifest(target, settings))


def _load_backbone(folder: ModelFolder) -> Backbone:
    tensors: dict[str, Tensor] = {}
    for file in folder.weight_files:
        tensors.update(load_file(file))
    try:
        return build_backbone(folder.architecture, tensors)
    except ModelFolderError as error:
        raise ModelFolderError(error.message, path=folder.path) from error


def _load_dense(described: DenseLayer) -> Dense:
    layer = Dense(
        described.in_features,
        described.out_features,
        bias=described.bias,
        activation=described.activation,
    )
    tensors = load_file(described.path)
    layer.load_state_dict({name: value.float() for name, value in tensors.items()})
    return layer


def _save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(whole, file, metadata={"format": "pt"})


def _pooling_config(encoder: Encoder) -> dict[str, Any]:
    """In the older form, which every version of sentence-transformers and other servers read."""
    theirs = {ours: name for name, ours in POOLING_NAMES.items()}[encoder.settings.pooling]
    return {
        "word_embedding_dimension": encoder.backbone.hidden_size,
        **{key: mode == theirs for key, mode in LEGACY_POOLING_KEYS.items()},
        "include_prompt": encoder.settings.include_prompt,
    }


def _write_layout(
    target: Path, modules: list[tuple[str, str]], settings: EncoderSettings, *, lower_case: bool
) -> None:
    write_json(
        target / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": MODULE_TYPE + kind}
            for i, (path, kind) in enumerate(modules)
        ],
    )
    write_json(
        target / "sentence_bert_config.json",
        {"max_seq_length": settings.max_tokens, "do_lower_case": lower_case},
    )
    write_json(
        target / "config_sentence_transformers.json",
        {
            "prompts": settings.prompts.to_dict(),
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )


def _manifest(target: Path, settings: EncoderSettings) -> dict[str, Any]:
    files = sorted([*target.rglob("*.safetensors"), target / "tokenizer.json"])
    manifest: dict[str, Any] = {
        "format": 1,
        "sha256": {str(file.relative_to(target)): file_digest(file).hex() for file in files},
    }
    if settings.matryoshka_dimensions:
        manifest["matryoshka_dimensions"] = list(settings.matryoshka_dimensions)
    if settings.query_delimiters is not None:
        manifest["query_delimiters"] = settings.query_delimiters
        manifest["document_delimiters"] = settings.document_delimiters
    return manifest


def _delimiters(value: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    return None if value is None else (tuple(value[0]), tuple(value[1]))
