"""The on-disk layout of a model: which files it has and what they say. JSON only, no torch.

Two layouts are read: a sentence-transformers folder (``modules.json``) and a plain transformers
folder (``config.json`` and weights). Nothing in a folder is ever run or unpickled: what asks for
that is refused by name before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from opengte.errors import ModelFolderError
from opengte.records import EmbeddingSpace
from opengte.safetensors_header import read_safetensors_header, tensor_digests
from opengte.text.prompts import Prompts

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
MODULE_KINDS = {
    "Transformer": "transformer",
    "Pooling": "pooling",
    "Dense": "dense",
    "Normalize": "normalise",
}
REIMPLEMENTED = {
    "new": "Alibaba-NLP/new-impl--",
    "nomic_bert": "nomic-ai/nomic-bert-2048--",
    "nvembed": "",
}
"""Released checkpoints that name code of their own which we have in ours: the code named under
``auto_map`` is not fetched and not run."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
MANIFEST = "opengte.json"


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


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder says; made by ``ModelFolder.read``.

    Attributes:
        path: the folder.
        architecture: the contents of ``config.json``.
        pooling: how token states become one vector.
        include_prompt: whether tokens of the prompt take part in pooling.
        normalise: whether vectors are brought to length 1.
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
        return _size(self.architecture, "hidden_size", "d_model", "n_embd", path=self.path)

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


def _read(
    path: Path, *, pooling: PoolingMode | None, normalise: bool | None, max_tokens: int | None
) -> ModelFolder:
    if not path.is_dir():
        raise ModelFolderError("no such model folder", path=path)
    modules = _read_modules(path)
    by_kind: dict[str, list[Path]] = {}
    for kind, folder in modules:
        by_kind.setdefault(kind, []).append(folder)
    backbone = by_kind.get("transformer", [path])[0]
    architecture = _read_architecture(backbone)
    onnx_file = next(
        (file for name in ("onnx/model.onnx", "model.onnx") if (file := path / name).is_file()),
        None,
    )
    weights = _weight_files(backbone, required=onnx_file is None)
    mode, include_prompt = _read_pooling(by_kind.get("pooling", []), default=pooling or "mean")
    dense = tuple(_read_dense(folder) for folder in by_kind.get("dense", []))
    st_config = _json(path / "config_sentence_transformers.json")
    manifest = _json(path / MANIFEST)
    sbert = _json(backbone / "sentence_bert_config.json")
    return ModelFolder(
        path=path,
        architecture=architecture,
        pooling=mode,
        include_prompt=include_prompt,
        normalise="normalise" in by_kind if modules else bool(normalise),
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


def _json(path: Path, *, required: bool = False) -> dict[str, Any]:
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


def _read_modules(path: Path) -> list[tuple[str, Path]]:
    """The chain of modules as (kind, folder); empty for a plain transformers folder."""
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
        kind = MODULE_KINDS.get(type_name.rpartition(".")[2])
        if kind is None or not type_name.startswith("sentence_transformers."):
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
    if ranks != sorted(ranks) or not alone or kinds.count("normalise") > 1:
        raise ModelFolderError(
            f"modules must be Transformer, Pooling, perhaps Dense and Normalize; found {kinds}",
            path=file,
        )


def _read_architecture(folder: Path) -> dict[str, Any]:
    config = _json(folder / "config.json", required=True)
    if "model_type" not in config:
        raise ModelFolderError(
            "no 'model_type'; is this a transformers config?", path=folder / "config.json"
        )
    code = config.get("auto_map")
    if code:
        known = REIMPLEMENTED.get(config["model_type"])
        names = [
            name
            for value in code.values()
            for name in ([value] if isinstance(value, str) else value)
        ]
        if known is None or not all(str(name).startswith(known) for name in names):
            raise ModelFolderError(
                f"asks to run its own model code (auto_map: {', '.join(map(str, names))}), which "
                "is never done; use a checkpoint that transformers has built in",
                path=folder / "config.json",
            )
    return config


def _read_pooling(folders: list[Path], *, default: PoolingMode) -> tuple[PoolingMode, bool]:
    if not folders:
        return default, True
    config = _json(folders[0] / "config.json", required=True)
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


def _read_dense(folder: Path) -> DenseLayer:
    config = _json(folder / "config.json", required=True)
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
    (file,) = _weight_files(folder, required=True)
    shapes = {key: entry["shape"] for key, entry in read_safetensors_header(file).items()}
    expected = [int(config.get("out_features", 0)), int(config.get("in_features", 0))]
    if shapes.get("linear.weight") != expected:
        raise ModelFolderError(
            f"'linear.weight' must have shape {expected}, found {shapes.get('linear.weight')}",
            path=file,
        )
    return DenseLayer(file, expected[1], expected[0], "linear.bias" in shapes, ACTIVATIONS[name])


def _weight_files(folder: Path, *, required: bool) -> tuple[Path, ...]:
    """The safetensors files of a folder, each checked for being whole."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    elif index.is_file():
        names = sorted(set(_json(index).get("weight_map", {}).values()))
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


def _max_tokens(folder: Path, architecture: Mapping[str, Any], sbert: Mapping[str, Any]) -> int:
    """As sentence-transformers finds it: its own setting, else what model and tokenizer allow."""
    if sbert.get("max_seq_length"):
        return int(sbert["max_seq_length"])
    tokenizer = _json(folder / "tokenizer_config.json")
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


assert set(POOLING_NAMES.values()) == set(get_args(PoolingMode))
