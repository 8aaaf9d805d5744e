"""Tensors, one after the other -> one safetensors file, hashed while it is written.

The library's own writer needs all tensors at once; here a rank can gather, write and forget one
after the other, so that a sharded model never has to fit into one process.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from opengte.safetensors_header import ITEM_BYTES

BLOCK_BYTES = 1 << 22

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of a tensor that is still to come."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> TensorSpec:
        """What ``tensor`` is; for a sharded tensor, what the whole is."""
        return cls(tensor.dtype, tuple(tensor.shape))


def write_tensors(
    path: Path, specs: Mapping[str, TensorSpec], tensors: Iterable[tuple[str, Tensor]]
) -> str:
    """Write a safetensors file.

    Args:
        path: the file; written in place, so it must stand in a folder that is not yet published.
        specs: names, types and shapes.
        tensors: one after the other, in the order of ``specs``.

    Returns:
        SHA-256 of the file, hex.
    """
    digest = hashlib.sha256()
    with open(path, "wb") as stream:
        for block in _file_blocks(specs, tensors):
            digest.update(block)
            stream.write(block)
    return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that ``write_tensors`` wrote and whose digest was checked."""
    return load_file(str(path))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _file_blocks(
    specs: Mapping[str, TensorSpec], tensors: Iterable[tuple[str, Tensor]]
) -> Iterator[bytes | memoryview]:
    header: dict[str, object] = {}
    end = 0
    for name, spec in specs.items():
        kind = DTYPE_NAMES[spec.dtype]
        start, end = end, end + prod(spec.shape) * ITEM_BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(spec.shape), "data_offsets": [start, end]}
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)  # tensors begin aligned to 8 bytes
    yield struct.pack("<Q", len(content)) + content
    for (name, spec), (given, tensor) in zip(specs.items(), tensors, strict=True):
        assert (name, spec) == (given, TensorSpec.of(tensor)), f"{given} came for {name}"
        flat = tensor.detach().contiguous().reshape(-1).cpu()
        view = memoryview(flat.view(torch.uint8).numpy().data)
        yield from (view[i : i + BLOCK_BYTES] for i in range(0, len(view), BLOCK_BYTES))
