"""The header of a safetensors file: names, types, shapes and byte ranges, checked; no torch.

Layout: eight bytes (little-endian length of the header), the header as JSON, the tensors' bytes.
A file that is cut short, or is something else under this name, is refused here by its header
alone, before a library maps it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from math import prod
from pathlib import Path
from typing import Any

from opengte.errors import ModelFolderError

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
MAX_HEADER_BYTES = 100_000_000
BLOCK_BYTES = 1 << 22


def read_safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """Read and check a header.

    Returns:
        By tensor name: ``dtype``, ``shape``, ``data_offsets`` (begin and end behind the header).

    Raises:
        ModelFolderError: it is not a safetensors file, or it is shorter than it says.
    """
    return _read(path)[0]


def tensor_digests(path: Path) -> dict[str, bytes]:
    """SHA-256 of each tensor's type, shape and bytes, by name.

    Hashing tensors and not the file makes the digest independent of their order in it.
    """
    header, start = _read(path)
    digests = {}
    with open(path, "rb") as stream:
        for name, entry in header.items():
            digest = hashlib.sha256(tensor_label(entry["dtype"], entry["shape"]))
            begin, end = entry["data_offsets"]
            stream.seek(start + begin)
            left = end - begin
            while left:
                block = stream.read(min(left, BLOCK_BYTES))
                digest.update(block)
                left -= len(block)
            digests[name] = digest.digest()
    return digests


def tensor_label(dtype: str, shape: list[int]) -> bytes:
    """What ``tensor_digests`` hashes in front of a tensor's bytes."""
    return json.dumps([dtype, list(shape)]).encode()


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    size = path.stat().st_size
    with open(path, "rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, max(size, 9)):
            raise ModelFolderError("not a safetensors file, or cut short", path=path)
        content = stream.read(length)
    if len(content) < length:
        raise ModelFolderError("cut short: the header ends early; copy the file again", path=path)
    try:
        header = json.loads(content)
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        whole = all(_fits(entry) for entry in header.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelFolderError(f"not a safetensors file: {error!r}", path=path) from error
    if not whole:
        raise ModelFolderError("damaged: a tensor's bytes do not fit its shape", path=path)
    if 8 + length + end != size:
        raise ModelFolderError(
            f"cut short: {8 + length + end} bytes expected, {size} found; copy the file again",
            path=path,
        )
    return header, 8 + length


def _fits(entry: dict[str, Any]) -> bool:
    begin, end = entry["data_offsets"]
    item = ITEM_BYTES.get(entry["dtype"])
    return item is None or end - begin == item * prod(entry["shape"])
