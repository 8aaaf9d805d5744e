"""What an encoder really is: a SHA-256 over its weights and its tokenizer, as they are now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opengte.model_files import revision_digest
from opengte.models.backbone import Backbone
from opengte.safetensors_header import tensor_label

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

SAFETENSORS_TYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
}


class Revision:
    """The revision of a live encoder, computed again only when a weight has been written to.

    A folder that is saved and read gives the same revision as the encoder it was saved from.

    The encoder holds this, and is given anew each time: were it held here, each would keep the
    other, and its weights would stay in memory until the garbage collector comes by.

    Args:
        encoder: whose revision it is.
        known: its revision as it stands now, e.g. that of the folder it was loaded from.
    """

    def __init__(self, encoder: Encoder, *, known: str | None) -> None:
        self._value = known
        self._versions = _write_counts(encoder) if known is not None else None

    def of(self, encoder: Encoder) -> str:
        """SHA-256, 64 hex digits."""
        counts = _write_counts(encoder)
        if self._value is None or counts != self._versions:
            self._value = revision_digest(
                tensor_hashes(checkpoint_of(encoder)), encoder.tokenizer.files["tokenizer.json"]
            )
            self._versions = counts
        return self._value


def _write_counts(encoder: Encoder) -> list[int]:
    return [parameter._version for parameter in encoder.parameters()]


def checkpoint_of(encoder: Encoder) -> dict[str, Tensor]:
    """All weights under the names of a folder's files; those of dense layers are prefixed."""
    if has_adapters(encoder):
        return dict(encoder.state_dict())
    tensors = backbone_checkpoint(encoder.backbone)
    if encoder.latent_attention is not None:
        for name, value in encoder.latent_attention.state_dict().items():
            tensors[f"latent_attention.{name}"] = value
    for i, layer in enumerate(encoder.dense):
        for name, value in layer.state_dict().items():
            tensors[f"dense.{i}.{name}"] = value
    return tensors


def has_adapters(encoder: Encoder) -> bool:
    """Whether low-rank adapters stand beside its layers."""
    return any(".lora_A." in name for name, _ in encoder.named_parameters())


def backbone_checkpoint(backbone: Backbone) -> dict[str, Tensor]:
    """The backbone's weights under transformers' names, as a folder holds them."""
    state = backbone.state_dict()  # type: ignore[attr-defined]
    return {**backbone.to_checkpoint(state), **backbone.carried}


def tensor_hashes(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """SHA-256 of each tensor's type, shape and bytes, as ``tensor_digests`` takes it of a file."""
    result = {}
    for name, value in tensors.items():
        digest = hashlib.sha256(tensor_label(SAFETENSORS_TYPES[value.dtype], list(value.shape)))
        flat = value.detach().contiguous().cpu().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
        result[name] = digest.digest()
    return result
