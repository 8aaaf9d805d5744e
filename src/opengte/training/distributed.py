"""The ranks of a run: who they are, and the few things they ever tell each other.

Axes: n texts of one rank, D embedding size, W ranks.

``torch.distributed.nn.functional`` is deprecated and ``dist.all_gather`` carries no gradient;
the gather here does, and takes ragged blocks.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

TIMEOUT = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """This process among all.

    Attributes:
        rank: its number, from 0.
        size: how many there are, W.
        num_local: how many of them are on this machine.
        device: where its tensors live.
    """

    rank: int
    size: int
    device: torch.device
    num_local: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def gather_rows(
        self, rows: Float[Tensor, "n D"], num_rows: Sequence[int]
    ) -> Float[Tensor, "total D"]:
        """The rows of all ranks, rank 0's first, with gradient.

        Args:
            rows: this rank's, any number of them.
            num_rows: how many each rank brings, W values.
        """
        if self.size == 1:
            return rows
        gathered: Float[Tensor, "total D"] = GatherRows.apply(rows, tuple(num_rows), self.rank)
        return gathered

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, in place, on every rank."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, value: int) -> int:
        """The largest of the ranks' values."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        if self.size > 1:
            dist.barrier()

    def from_first(self, value: Any) -> Any:
        """The JSON-able value that rank 0 brings."""
        if self.size == 1:
            return value
        content = json.dumps(value).encode() if self.is_first else b""
        length = self.maximum(len(content))
        box = torch.zeros(length, dtype=torch.uint8, device=self.device)
        if self.is_first:
            box.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(box, src=0)
        return json.loads(bytes(box.cpu().numpy()))


class GatherRows(torch.autograd.Function):
    """All ranks' rows, one under the other; the backward pass adds up what all ranks send back.

    Blocks are padded to the longest for the collective, so ranks may hold different numbers.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, num_rows: tuple[int, ...], rank: int) -> Tensor:
        """Gather."""
        ctx.num_rows, ctx.rank = num_rows, rank
        blocks = _all_gather(_pad(rows, max(num_rows)), len(num_rows))
        return torch.cat([block[:n] for block, n in zip(blocks, num_rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Sum over ranks, and keep this rank's block."""
        longest = max(ctx.num_rows)
        blocks = [_pad(b, longest) for b in gradients[0].split(ctx.num_rows)]
        own = torch.empty_like(blocks[0])
        dist.reduce_scatter(own, blocks)
        return own[: ctx.num_rows[ctx.rank]], None, None


def _all_gather(rows: Tensor, world_size: int) -> list[Tensor]:
    blocks = [torch.empty_like(rows) for _ in range(world_size)]
    dist.all_gather(blocks, rows.contiguous())
    return blocks


def _pad(rows: Tensor, length: int) -> Tensor:
    if len(rows) == length:
        return rows.contiguous()
    padded = rows.new_zeros(length, *rows.shape[1:])
    padded[: len(rows)] = rows
    return padded


@contextlib.contextmanager
def join_world() -> Iterator[World]:
    """Join the ranks that torchrun started, or be the only one.

    Uses NCCL where every rank of the machine has its own GPU, else gloo. A group that the
    caller has set up already is used and left as it is.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    on_gpu = torch.cuda.is_available() and local_rank < torch.cuda.device_count()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size(), device, num_local)
        return
    if size == 1:
        yield World(0, 1, device)
        return
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device, num_local)
    finally:
        gc.collect()  # what still refers to the group would keep its threads running
        dist.destroy_process_group()
