"""How ranks share the work of a step: what differs between strategies, and nothing else.

Every rank computes the loss of its own rows, divided by the *global* number of pairs. So
gradients of ranks are added up, never averaged, and any number of ranks takes the same step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from opengte.training.distributed import World

BUCKET_BYTES = 25 * 2**20


class Parallelism(Protocol):
    """One way of sharing the work."""

    def wrap(self, encoder: nn.Module) -> None:
        """Prepare the encoder, in place, before the optimiser is made."""
        ...

    def around(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Surrounds the forward and backward pass of a micro-batch."""
        ...

    def num_micro_batches(self, own: int) -> int:
        """How many micro-batches this rank must run, when its texts make ``own``."""
        ...

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """After the last backward pass: every gradient becomes the sum over ranks."""
        ...

    def whole(self, tensor: Tensor) -> Tensor:
        """The whole of a tensor that may be sharded; a collective call."""
        ...

    def fill(self, tensor: Tensor, values: Tensor) -> None:
        """Put ``values``, whole, into a tensor that may be sharded."""
        ...

    def whole_encoder(self) -> contextlib.AbstractContextManager[None]:
        """Inside, this rank may call the encoder without the others doing the same."""
        ...


class SingleProcess:
    """One process holds everything."""

    def wrap(self, encoder: nn.Module) -> None:
        """Nothing to prepare."""

    @contextlib.contextmanager
    def around(self, is_last: bool) -> Iterator[None]:
        """Nothing to wait for."""
        yield

    def num_micro_batches(self, own: int) -> int:
        """Its own."""
        return own

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """There is one rank alone."""

    def whole(self, tensor: Tensor) -> Tensor:
        """Itself."""
        return tensor

    def fill(self, tensor: Tensor, values: Tensor) -> None:
        """Copy."""
        with torch.no_grad():
            tensor.copy_(values)

    @contextlib.contextmanager
    def whole_encoder(self) -> Iterator[None]:
        """It is whole."""
        yield


class Replicated(SingleProcess):
    """Every rank holds the whole model (data parallel); gradients are added up in buckets.

    Args:
        world: the ranks.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def wrap(self, encoder: nn.Module) -> None:
        """Give every rank the weights of rank 0."""
        for tensor in (*encoder.parameters(), *encoder.buffers()):
            dist.broadcast(tensor.detach(), src=0)

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up in buckets of equal content on every rank.

        A parameter that this rank's rows did not reach has no gradient here but may have one
        elsewhere: it takes part with zeros.
        """
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        pending = []
        for bucket in _buckets(parameters):
            flat = torch.cat([g.reshape(-1) for g in bucket])
            pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in pending:
            work.wait()
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Gradients in order, in lists of one type and about ``BUCKET_BYTES``."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in (p.grad for p in parameters):
        assert gradient is not None
        if bucket and (size >= BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
    if bucket:
        yield bucket


def load_tensors(
    parallelism: Parallelism, targets: Mapping[str, Tensor], values: Mapping[str, Tensor]
) -> None:
    """Put saved tensors into those of the same names."""
    for name, target in targets.items():
        parallelism.fill(target, values[name])
