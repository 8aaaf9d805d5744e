"""Encoders -> model folders in the sentence-transformers layout, which other tools read too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from opengte.atomic import atomic_folder, write_json
from opengte.errors import ConfigError
from opengte.model_folder import MANIFEST, file_digest
from opengte.model_modules import LATENT_ATTENTION, LEGACY_POOLING_KEYS, POOLING_NAMES
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.fingerprint import backbone_checkpoint, has_adapters
from opengte.models.heads import Dense

MODULE_TYPE = "sentence_transformers.models."
SPARSE_HEAD = "sparse_head.safetensors"


def save_encoder(encoder: Encoder, folder: str | Path) -> None:
    """Write an encoder in the sentence-transformers layout, in one step.

    Other tools read it: weights under transformers' names in safetensors, the tokenizer's files
    unchanged, pooling, dense layers and normalisation as modules. What that layout has no place
    for stands in ``opengte.json``, with the SHA-256 of the weights and the tokenizer; a layer
    that sentence-transformers does not have is a module of ours, so that it refuses the folder
    instead of giving other vectors.

    Raises:
        ConfigError: low-rank adapters have not been merged.
        StorageError: the disk is full, or the folder cannot be written.
    """
    if has_adapters(encoder):
        raise ConfigError("the encoder still has adapters; merge them first with merge_lora")
    settings = replace(encoder.settings, max_tokens=encoder.max_tokens)
    with atomic_folder(folder) as target:
        save_tensors(backbone_checkpoint(encoder.backbone), target / "model.safetensors")
        write_json(target / "config.json", encoder.backbone.config)
        encoder.tokenizer.save(target)
        if encoder.sparse_head is not None:
            save_tensors(encoder.sparse_head.state_dict(), target / SPARSE_HEAD)
        modules = _write_modules(encoder, settings, target)
        write_json(
            target / "modules.json",
            [
                {"idx": i, "name": str(i), "path": path, "type": kind}
                for i, (path, kind) in enumerate(modules)
            ],
        )
        _write_settings(target, settings, lower_case=encoder.tokenizer.lower_case)
        write_json(target / MANIFEST, _manifest(encoder, target, settings))


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors to a safetensors file; the folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(whole, file, metadata={"format": "pt"})


def _write_modules(
    encoder: Encoder, settings: EncoderSettings, target: Path
) -> list[tuple[str, str]]:
    """Write the folder of each module; their paths and types in order."""
    modules = [("", MODULE_TYPE + "Transformer")]
    if encoder.latent_attention is not None:
        name = f"{len(modules)}_LatentAttention"
        save_tensors(encoder.latent_attention.state_dict(), target / name / "model.safetensors")
        write_json(target / name / "config.json", encoder.latent_attention.describe())
        modules.append((name, LATENT_ATTENTION))
    name = f"{len(modules)}_Pooling"
    write_json(target / name / "config.json", _pooling_config(encoder))
    modules.append((name, MODULE_TYPE + "Pooling"))
    for layer in encoder.dense:
        assert isinstance(layer, Dense)
        name = f"{len(modules)}_Dense"
        save_tensors(layer.state_dict(), target / name / "model.safetensors")
        write_json(target / name / "config.json", layer.describe())
        modules.append((name, MODULE_TYPE + "Dense"))
    if settings.normalise:
        modules.append((f"{len(modules)}_Normalize", MODULE_TYPE + "Normalize"))
    return modules


def _pooling_config(encoder: Encoder) -> dict[str, Any]:
    """In the older form, which every version of sentence-transformers and other servers read."""
    theirs = {ours: name for name, ours in POOLING_NAMES.items()}[encoder.settings.pooling]
    return {
        "word_embedding_dimension": encoder.backbone.hidden_size,
        **{key: mode == theirs for key, mode in LEGACY_POOLING_KEYS.items()},
        "include_prompt": encoder.settings.include_prompt,
    }


def _write_settings(target: Path, settings: EncoderSettings, *, lower_case: bool) -> None:
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


def _manifest(encoder: Encoder, target: Path, settings: EncoderSettings) -> dict[str, Any]:
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
    if encoder.sparse_head is not None:
        manifest["sparse_head"] = {"ignored_ids": sorted(encoder.sparse_head.ignored_ids)}
    return manifest
