"""A trained encoder -> a folder with an ONNX graph that gives the same vectors anywhere.

Pooling, dense layers and normalisation stand inside the graph, so that nobody can pool wrongly:
``input_ids``, ``attention_mask`` (N, L) in, ``sentence_embedding`` (N, D) out. Models whose
prompts take no part in pooling have a third input, ``pooling_mask``. The folder appears only
when the exported graph was run on real texts and agreed.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from opengte.atomic import atomic_folder, write_json
from opengte.errors import ConfigError, OpenGTEError
from opengte.export.check_texts import CHECK_TEXTS, of_many_lengths
from opengte.model_folder import MANIFEST, PoolingMode, file_digest
from opengte.models.encoder import Encoder
from opengte.models.weights import save_encoder
from opengte.runtime.onnx import OnnxEncoder

OPSET = 17
"""The first with LayerNormalization; runtimes from 2022 on read it."""
TOLERANCE = 1e-4
GRAPH = "model.onnx"


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far the exported graph's vectors are from the encoder's.

    Attributes:
        max_abs_difference: of any value, where the vector's length is 1 or more: over the length.
        min_cosine: of any text's two vectors.
        num_texts: texts compared, each alone and among neighbours.
    """

    max_abs_difference: float
    min_cosine: float
    num_texts: int


def export_onnx(
    encoder: Encoder,
    folder: str | Path,
    *,
    opset: int = OPSET,
    check_texts: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> ParityReport:
    """Write ``encoder`` as an ONNX folder and compare its vectors with the encoder's own.

    Args:
        encoder: as it is now; weights are exported in float32.
        folder: written in one step, or not at all.
        opset: version of the ONNX operators, at least 17.
        check_texts: texts of the corpus, compared besides built-in ones of many lengths.
        tolerance: the largest difference that passes.

    Raises:
        ConfigError: ``opset`` is too old.
        OpenGTEError: the graph's vectors differ by more than ``tolerance``; nothing is left.
        StorageError: the folder cannot be written; nothing is left.
    """
    if opset < OPSET:
        raise ConfigError(f"opset must be >= {OPSET}, got {opset}")
    with atomic_folder(folder) as target:
        saved = target / "saved"
        save_encoder(encoder, saved)
        graph = PaddedEncoder(_padded_backbone(saved), encoder)
        for file in saved.glob("model*.safetensors*"):
            file.unlink()
        for file in list(saved.iterdir()):
            file.rename(target / file.name)
        saved.rmdir()
        _write_graph(graph, target / GRAPH, encoder, opset=opset)
        _write_manifest(encoder, target)
        texts = [*of_many_lengths(CHECK_TEXTS, max_tokens=encoder.max_tokens), *check_texts]
        report = compare(encoder, OnnxEncoder(target), texts)
        if not report.max_abs_difference <= tolerance:
            raise OpenGTEError(
                f"the exported graph differs from the model by {report.max_abs_difference:.2e}, "
                f"more than {tolerance:.0e}; nothing was written to {folder}"
            )
    return report


class PaddedEncoder(nn.Module):
    """The whole way from padded ids to embeddings, as one module to trace.

    Args:
        backbone: transformers' own model, on padded inputs.
        encoder: whose pooling, dense layers and normalisation to take.
    """

    def __init__(self, backbone: nn.Module, encoder: Encoder) -> None:
        super().__init__()
        self.backbone = backbone
        self.dense = copy.deepcopy(encoder.dense).cpu()
        self.pooling = encoder.settings.pooling
        self.normalise = encoder.settings.normalise

    def forward(
        self,
        input_ids: Int[Tensor, "N L"],
        attention_mask: Int[Tensor, "N L"],
        pooling_mask: Int[Tensor, "N L"] | None = None,
    ) -> Float[Tensor, "N D"]:
        """Embed a padded batch; see the module's docstring."""
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask if pooling_mask is None else pooling_mask
        vectors = pool_padded(states, mask, mode=self.pooling)
        for layer in self.dense:
            vectors = layer(vectors)
        return functional.normalize(vectors, dim=-1) if self.normalise else vectors


def pool_padded(
    states: Float[Tensor, "N L C"], mask: Int[Tensor, "N L"], *, mode: PoolingMode
) -> Float[Tensor, "N C"]:
    """One vector a text, as ``models.pooling.pool`` gives it for packed tokens.

    Only sums, products and maxima: gathering rows by computed numbers exports badly.
    """
    inside = mask.to(states.dtype)
    if mode == "max":
        # A product, not a fill: filling with -inf gives NaN in half precision runtimes.
        return (states * inside[..., None] + (inside[..., None] - 1) * 1e9).amax(dim=1)
    order = inside.cumsum(dim=1)
    if mode == "cls":
        weights = inside * (order == 1)
    elif mode == "last_token":
        weights = inside * (order == order[:, -1:])
    elif mode == "weighted_mean":
        # Positions count from the text's beginning, prompt included.
        weights = inside * torch.ones_like(inside).cumsum(dim=1)
    else:
        weights = inside
    totals = (states * weights[..., None]).sum(dim=1)
    sizes = weights.sum(dim=1, keepdim=True)
    return totals / (sizes.sqrt() if mode == "mean_sqrt_length" else sizes)


def compare(encoder: Encoder, exported: OnnxEncoder, texts: Sequence[str]) -> ParityReport:
    """Embed ``texts`` with both, each text alone and all together, and take the worst."""
    with _in_float32(encoder):
        expected = encoder.encode(texts)
    alone = np.concatenate([exported.encode([text]) for text in texts])
    together = exported.encode(texts)
    lengths = np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1.0)
    return ParityReport(
        max_abs_difference=max(
            float(np.abs((vectors - expected) / lengths).max()) for vectors in (alone, together)
        ),
        min_cosine=min(_min_cosine(expected, alone), _min_cosine(expected, together)),
        num_texts=len(texts),
    )


def _min_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    return float(((a64 * b64).sum(axis=1) / lengths).min())


@contextlib.contextmanager
def _in_float32(encoder: Encoder) -> Iterator[None]:
    before = encoder.compute_dtype
    encoder.compute_dtype = "float32"
    try:
        yield
    finally:
        encoder.compute_dtype = before


def _padded_backbone(folder: Path) -> nn.Module:
    """Transformers' own model with the saved weights, every one of them."""
    from transformers import AutoModel

    with _quiet():
        model, info = AutoModel.from_pretrained(
            folder,
            attn_implementation="eager",
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    # A pooler that is not in the checkpoint is not in the graph either.
    missing = [name for name in info["missing_keys"] if not name.startswith("pooler.")]
    if missing:
        raise OpenGTEError(f"transformers found no weights for {', '.join(sorted(missing)[:5])}")
    return model.eval()


def _write_graph(graph: PaddedEncoder, file: Path, encoder: Encoder, *, opset: int) -> None:
    inputs = _example(encoder)
    names = list(inputs)
    axes = {name: {0: "num_texts", 1: "num_tokens"} for name in names}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            str(file),
            input_names=names,
            output_names=["sentence_embedding"],
            dynamic_axes={**axes, "sentence_embedding": {0: "num_texts"}},
            opset_version=opset,
            # The tracing exporter: one file, no further packages, a fifth of the time.
            dynamo=False,
        )


def _example(encoder: Encoder) -> dict[str, Tensor]:
    """A batch with padding, so that tracing keeps the masks."""
    num_tokens = min(8, encoder.max_tokens)
    ids = torch.full((2, num_tokens), max(encoder.tokenizer.pad_id, 0), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate((num_tokens, max(1, num_tokens - 3))):
        ids[row, :length] = torch.arange(length) % encoder.tokenizer.vocab_size
        mask[row, :length] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if not encoder.settings.include_prompt:
        inputs["pooling_mask"] = mask.clone()
    return inputs


def _write_manifest(encoder: Encoder, target: Path) -> None:
    """``opengte.json`` of the export: what it was made from, and what its files should be."""
    manifest: dict[str, Any] = {"format": 1, "exported_from_revision": encoder.space.revision}
    settings = encoder.settings
    if settings.matryoshka_dimensions:
        manifest["matryoshka_dimensions"] = list(settings.matryoshka_dimensions)
    if settings.query_delimiters is not None:
        manifest["query_delimiters"] = settings.query_delimiters
        manifest["document_delimiters"] = settings.document_delimiters
    files = [*target.glob(f"{GRAPH}*"), *target.rglob("*.safetensors"), target / "tokenizer.json"]
    manifest["sha256"] = {
        str(file.relative_to(target)): file_digest(file).hex() for file in sorted(files)
    }
    write_json(target / MANIFEST, manifest)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on its own future and transformers' progress bars."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
