"""Cross-encoders <-> folders, in the layout of transformers' sequence classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opengte.atomic import atomic_folder, write_json
from opengte.errors import ModelFolderError
from opengte.model_folder import MANIFEST, ModelFolder, file_digest
from opengte.models.architectures import clean_config
from opengte.models.building import build_backbone
from opengte.models.cross_encoder import CrossEncoder
from opengte.models.folder_writer import save_tensors
from opengte.models.score_head import NAMES, HeadKind, ScoreHead, head_kind
from opengte.models.weights import load_tensors
from opengte.text.tokenizer import Tokenizer

PREFIXES = {
    "bert": "bert.",
    "roberta": "roberta.",
    "xlm-roberta": "roberta.",
    "camembert": "roberta.",
    "gte": "gte.",
    "modernbert": "model.",
}
"""Under which prefix transformers' sequence classifiers keep the backbone."""
CLASSIFIERS = {
    ("bert", "bert"): "BertForSequenceClassification",
    ("roberta", "roberta"): "RobertaForSequenceClassification",
    ("xlm-roberta", "roberta"): "XLMRobertaForSequenceClassification",
    ("camembert", "roberta"): "CamembertForSequenceClassification",
    ("gte", "bert"): "GteForSequenceClassification",
    ("modernbert", "modernbert"): "ModernBertForSequenceClassification",
}
"""Which of transformers' classes computes a backbone with a head."""


def load_cross_encoder(
    path: str | Path,
    *,
    max_tokens: int | None = None,
    dtype: str = "auto",
    device: str | torch.device = "cpu",
) -> CrossEncoder:
    """Read a reranker, or another classifier of pairs, from a transformers folder.

    Args:
        path: the folder.
        max_tokens: longest pair; what the model and its tokenizer allow by default.
        dtype: number format of activations.
        device: where to put the weights.

    Raises:
        ModelFolderError: it holds no classifier, or something is missing, damaged or unknown.
    """
    folder = ModelFolder.read(path)
    folder.verify()
    config = clean_config(folder.architecture)
    if config["model_type"] not in PREFIXES:
        known = ", ".join(PREFIXES)
        raise ModelFolderError(
            f"cross-encoders of type {config['model_type']!r} are not known; known: {known}",
            path=path,
        )
    tensors = load_tensors(folder)
    kind = head_kind(tensors)
    if kind is None:
        raise ModelFolderError(
            "no classifier among its weights (classifier.weight); is it an embedding model?",
            path=path,
        )
    try:
        head = _split_head(config, tensors, kind)
        backbone = build_backbone(config, tensors)
    except ModelFolderError as error:
        raise ModelFolderError(error.message, path=path) from error
    backbone.carried.clear()
    return CrossEncoder(
        backbone,
        head,
        Tokenizer.from_folder(folder.backbone_path, lower_case=folder.lower_case),
        max_tokens=max_tokens or folder.max_tokens,
        compute_dtype=dtype,
    ).to(device)


def save_cross_encoder(model: CrossEncoder, folder: str | Path) -> None:
    """Write a cross-encoder as transformers' sequence classifier, in one step.

    A combination of backbone and head that transformers does not have is read by us alone.
    """
    model_type, kind = model.backbone.config["model_type"], model.head.kind
    prefix = PREFIXES[model_type]
    state = model.backbone.state_dict()  # type: ignore[attr-defined]
    tensors = {prefix + n: v for n, v in model.backbone.to_checkpoint(state).items()}
    names = _head_names(prefix, kind)
    for name, value in model.head.state_dict().items():
        layer, _, part = name.partition(".")
        tensors[f"{names[layer]}.{part}"] = value
    config = dict(model.backbone.config)
    config["architectures"] = [CLASSIFIERS.get((model_type, kind), "OpenGTECrossEncoder")]
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(model.head.out.out_features)}
    config["label2id"] = {f"LABEL_{i}": i for i in range(model.head.out.out_features)}
    # sentence-transformers would put a sigmoid over a single label.
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    if kind == "modernbert":
        config["classifier_pooling"] = model.head.pooling
    with atomic_folder(folder) as target:
        save_tensors(tensors, target / "model.safetensors")
        write_json(target / "config.json", config)
        model.tokenizer.save(target)
        write_json(target / "sentence_bert_config.json", {"max_seq_length": model.max_tokens})
        digest = file_digest(target / "model.safetensors").hex()
        write_json(target / MANIFEST, {"format": 1, "sha256": {"model.safetensors": digest}})


def _split_head(config: Mapping[str, Any], tensors: dict[str, Tensor], kind: HeadKind) -> ScoreHead:
    """Build the head from its weights, and take them out of ``tensors``."""
    layers = {}
    for ours, theirs in NAMES[kind].items():
        found = [name for name in tensors if name.rpartition(".")[0].endswith(theirs)]
        for name in found:
            layers[f"{ours}.{name.rpartition('.')[2]}"] = tensors.pop(name)
    out = layers["out.weight"]
    head = ScoreHead(
        out.shape[1],
        out.shape[0],
        kind=kind,
        dropout=float(config.get("classifier_dropout") or config.get("hidden_dropout_prob") or 0.0),
        pooling=config.get("classifier_pooling", "cls") if kind == "modernbert" else "cls",
        bias="dense.bias" in layers,
        eps=float(config.get("norm_eps", 1e-5)),
    )
    missing = sorted({*head.state_dict()} ^ {*layers})
    if missing:
        raise ModelFolderError(f"weights of the classifier do not fit: {', '.join(missing)}")
    head.load_state_dict({name: value.float() for name, value in layers.items()})
    return head


def _head_names(prefix: str, kind: HeadKind) -> dict[str, str]:
    return {
        ours: prefix + theirs if theirs.startswith("pooler") else theirs
        for ours, theirs in NAMES[kind].items()
    }
