"""What autograd keeps for the backward pass, counted in bytes while it is being kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

GIB = 2**30
SHARE_OF_FREE_MEMORY = 0.6
"""The rest is left to gradients, the loss and whatever else runs on the machine."""


class KeptBytes:
    """Counts the storages that graphs hold on to; parameters are not counted.

    A storage that several operations keep counts once, as it takes memory once.
    """

    def __init__(self, module: nn.Module) -> None:
        self.total = 0
        self._seen = {p.untyped_storage().data_ptr() for p in module.parameters()}

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is kept by operations inside."""
        with torch.autograd.graph.saved_tensors_hooks(self._count, _as_it_is):
            yield

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on ``device``."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return min(_available_bytes(), _control_group_bytes())


def _available_bytes(path: Path = Path("/proc/meminfo")) -> int:
    """MemAvailable where Linux says it, else 4 GiB."""
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 4 * GIB


def _control_group_bytes(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container's limit still leaves; page cache can be taken back, so it counts as free."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 2**63
    return max(0, limit - used + int(facts.get("inactive_file", 0)))
