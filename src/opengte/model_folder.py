"""The on-disk layout of a model: which files it has and what they say. JSON only, no torch.

Two layouts are read: a sentence-transformers folder (``modules.json``) and a plain transformers
folder (``config.json`` and weights). Nothing in a folder is ever run or unpickled: what asks for
that is refused by name before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from opengte.errors import ModelFolderError
from opengte.model_files import (
    file_digest,
    read_architecture,
    read_json,
    revision_digest,
    weight_files,
)
from opengte.model_modules import DenseLayer, PoolingMode, read_dense, read_modules, read_pooling
from opengte.records import EmbeddingSpace
from opengte.safetensors_header import tensor_digests
from opengte.text.prompts import Prompts

__all__ = ["MANIFEST", "DenseLayer", "ModelFolder", "PoolingMode", "file_digest"]

MANIFEST = "opengte.json"


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder says; made by ``ModelFolder.read``.

    Attributes:
        path: the folder.
        architecture: the contents of ``config.json``.
        pooling: how token states become one vector.
        include_prompt: whether tokens of the prompt take part in pooling.
        normalise: whether vectors are brought to length 1.
        latent_attention: folder of NV-Embed's layer between token states and pooling, if any.
        dense_layers: linear layers after pooling, in order.
        prompts: texts put before queries, documents and tasks.
        max_tokens: longest input, special tokens included.
        matryoshka_dimensions: sizes to which vectors may be cut.
        lower_case: whether texts are lower-cased before the tokenizer.
        backbone_path: the folder of ``config.json``, the backbone's weights and the tokenizer.
        weight_files: the backbone's safetensors files.
        onnx_file: an exported graph, where there is one.
        manifest: the contents of ``opengte.json``, empty for folders of other tools.
    """

    path: Path
    architecture: Mapping[str, Any]
    pooling: PoolingMode
    include_prompt: bool
    normalise: bool
    latent_attention: Path | None
    dense_layers: tuple[DenseLayer, ...]
    prompts: Prompts
    max_tokens: int
    matryoshka_dimensions: tuple[int, ...]
    lower_case: bool
    backbone_path: Path
    weight_files: tuple[Path, ...]
    onnx_file: Path | None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        pooling: PoolingMode | None = None,
        normalise: bool | None = None,
        max_tokens: int | None = None,
    ) -> ModelFolder:
        """Read and check a folder.

        Args:
            path: the folder.
            pooling: for plain transformers folders, which do not say; the mean by default, as
                sentence-transformers reads them.
            normalise: likewise; not by default.
            max_tokens: shorter inputs than the model allows.

        Raises:
            ModelFolderError: something is missing, damaged, unknown, or would have to be run.
        """
        return _read(Path(path), pooling=pooling, normalise=normalise, max_tokens=max_tokens)

    @property
    def hidden_size(self) -> int:
        """Size of the backbone's token states."""
        config = self.architecture.get("text_config", self.architecture)
        return _size(config, "hidden_size", "d_model", "n_embd", path=self.path)

    @property
    def dimensions(self) -> int:
        """D, the size of the vectors before any Matryoshka cut."""
        return self.dense_layers[-1].out_features if self.dense_layers else self.hidden_size

    @cached_property
    def revision(self) -> str:
        """SHA-256 over the names, types, shapes and bytes of all weights, and the tokenizer.

        An export states the revision of the model it was made from, so that its vectors may be
        compared with that model's.
        """
        stated = self.manifest.get("exported_from_revision")
        if stated:
            return str(stated)
        files = [("", file) for file in self.weight_files]
        files += [(f"dense.{i}.", layer.path) for i, layer in enumerate(self.dense_layers)]
        if self.latent_attention is not None:
            files.append(("latent_attention.", self.latent_attention / "model.safetensors"))
        tensors: dict[str, bytes] = {}
        for prefix, file in files:
            for name, value in tensor_digests(file).items():
                tensors[prefix + name] = value
        if not tensors and self.onnx_file is not None:
            tensors["onnx"] = file_digest(self.onnx_file)
        names = ("tokenizer.json", "vocab.txt")
        tokenizer = [file for name in names if (file := self.backbone_path / name).is_file()]
        return revision_digest(tensors, tokenizer[0].read_bytes() if tokenizer else b"")

    def space(self) -> EmbeddingSpace:
        """The space its vectors live in."""
        return EmbeddingSpace(
            model=self.path.resolve().name,
            revision=self.revision,
            pooling=self.pooling,
            dimensions=self.dimensions,
            normalised=self.normalise,
            max_tokens=self.max_tokens,
            query_prompt=self.prompts.query,
            document_prompt=self.prompts.document,
            matryoshka_dimensions=self.matryoshka_dimensions,
        )

    def verify(self) -> None:
        """Compare every file that ``opengte.json`` lists with its SHA-256.

        Raises:
            ModelFolderError: a file was altered or removed since the folder was written.
        """
        for name, expected in self.manifest.get("sha256", {}).items():
            file = self.path / name
            if not file.is_file():
                raise ModelFolderError(
                    f"{name} is missing; the folder is incomplete", path=self.path
                )
            if file_digest(file).hex() != expected:
                raise ModelFolderError(
                    f"altered since it was written (its SHA-256 differs from {MANIFEST}); "
                    f"restore it, or remove the entry if the change is meant",
                    path=file,
                )


def _read(
    path: Path, *, pooling: PoolingMode | None, normalise: bool | None, max_tokens: int | None
) -> ModelFolder:
    if not path.is_dir():
        raise ModelFolderError("no such model folder", path=path)
    modules = read_modules(path)
    by_kind: dict[str, list[Path]] = {}
    for kind, folder in modules:
        by_kind.setdefault(kind, []).append(folder)
    backbone = by_kind.get("transformer", [path])[0]
    architecture = read_architecture(backbone)
    onnx_file = next(
        (file for name in ("onnx/model.onnx", "model.onnx") if (file := path / name).is_file()),
        None,
    )
    weights = weight_files(backbone, required=onnx_file is None)
    mode, include_prompt = read_pooling(by_kind.get("pooling", []), default=pooling or "mean")
    latent = by_kind.get("latent_attention", [None])[0]
    dense = tuple(read_dense(folder) for folder in by_kind.get("dense", []))
    st_config = read_json(path / "config_sentence_transformers.json")
    manifest = read_json(path / MANIFEST)
    sbert = read_json(backbone / "sentence_bert_config.json")
    return ModelFolder(
        path=path,
        architecture=architecture,
        pooling=mode,
        include_prompt=include_prompt,
        normalise="normalise" in by_kind if modules else bool(normalise),
        latent_attention=latent,
        dense_layers=dense,
        prompts=Prompts.from_dict(st_config.get("prompts") or {}),
        max_tokens=max_tokens or _max_tokens(backbone, architecture, sbert),
        matryoshka_dimensions=tuple(manifest.get("matryoshka_dimensions", ())),
        lower_case=bool(sbert.get("do_lower_case", False)),
        backbone_path=backbone,
        weight_files=weights,
        onnx_file=onnx_file,
        manifest=manifest,
    )


def _max_tokens(folder: Path, architecture: Mapping[str, Any], sbert: Mapping[str, Any]) -> int:
    """As sentence-transformers finds it: its own setting, else what model and tokenizer allow."""
    if sbert.get("max_seq_length"):
        return int(sbert["max_seq_length"])
    tokenizer = read_json(folder / "tokenizer_config.json")
    limits = [tokenizer.get("model_max_length"), _num_positions(architecture)]
    known = [int(limit) for limit in limits if limit is not None and limit < 10**9]
    return min(known, default=512)


def _num_positions(architecture: Mapping[str, Any]) -> int | None:
    positions = architecture.get("max_position_embeddings", architecture.get("n_positions"))
    if positions is None:
        return None
    # RoBERTa's positions begin behind the padding id.
    shifted = architecture["model_type"] in ("roberta", "xlm-roberta", "camembert")
    return int(positions) - (int(architecture.get("pad_token_id", 1)) + 1 if shifted else 0)


def _size(config: Mapping[str, Any], *keys: str, path: Path) -> int:
    for key in keys:
        if isinstance(config.get(key), int):
            return int(config[key])
    raise ModelFolderError(f"config.json names none of {', '.join(keys)}", path=path)
