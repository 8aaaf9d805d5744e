"""How ranks share the work of a step: what differs between strategies, and nothing else.

Every rank computes the loss of its own rows, divided by the *global* number of pairs. So
gradients of ranks are added up, never averaged, and any number of ranks takes the same step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.optimizer import LossScaler, Updater
from opengte.training.updater import AdamWUpdater

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder
    from opengte.models.packing import PackedTokens

BUCKET_BYTES = 25 * 2**20


class Parallelism(Protocol):
    """One way of sharing the work.

    Attributes:
        gradient_factor: what the loss's gradient is multiplied by on its way in.
    """

    gradient_factor: float

    def wrap(self, encoder: Encoder) -> Encoder:
        """Share out an encoder that is on the device.

        Returns:
            What is trained: the encoder itself, or a copy whose weights ``finish`` brings back.
        """
        ...

    def make_updater(
        self,
        parameters: Mapping[str, nn.Parameter],
        decayed: set[str],
        config: TrainingConfig,
        scaler: LossScaler,
    ) -> Updater:
        """What moves the weights, after ``wrap``."""
        ...

    def forward(self, packed: PackedTokens) -> Tensor:
        """Embed packed texts; with sharded weights every rank must."""
        ...

    def around(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Surrounds the forward and backward pass of a micro-batch."""
        ...

    def agree(self, num_kept: int, num_micro_batches: int) -> tuple[int, int]:
        """How many micro-batches keep their activations, and how many passes are made.

        Args:
            num_kept: that this rank could keep.
            num_micro_batches: that this rank has.
        """
        ...

    def whole(self, tensor: Tensor) -> Tensor:
        """The whole of a weight that may be sharded; every rank must ask."""
        ...

    def fill(self, tensor: Tensor, values: Tensor) -> None:
        """Put ``values``, whole, into a weight that may be sharded."""
        ...

    def whole_encoder(self) -> contextlib.AbstractContextManager[Encoder]:
        """An encoder that this rank may call without the others doing the same."""
        ...

    def finish(self) -> None:
        """After the last step: the encoder that was given to ``wrap`` holds the weights."""
        ...


class SingleProcess:
    """One process holds everything.

    Args:
        world: the one rank.
    """

    gradient_factor = 1.0

    def __init__(self, world: World) -> None:
        self.world = world
        self.encoder: Encoder

    def wrap(self, encoder: Encoder) -> Encoder:
        """Itself."""
        self.encoder = encoder
        return encoder

    def make_updater(
        self,
        parameters: Mapping[str, nn.Parameter],
        decayed: set[str],
        config: TrainingConfig,
        scaler: LossScaler,
    ) -> Updater:
        """AdamW."""
        return AdamWUpdater(
            parameters,
            decayed,
            config,
            scaler,
            add_up=self.add_up_gradients,
            whole=self.whole,
            fill=self.fill,
        )

    def forward(self, packed: PackedTokens) -> Tensor:
        """Embed."""
        output: Tensor = self.encoder(packed)
        return output

    @contextlib.contextmanager
    def around(self, is_last: bool) -> Iterator[None]:
        """Nothing to wait for."""
        yield

    def agree(self, num_kept: int, num_micro_batches: int) -> tuple[int, int]:
        """As this rank wishes."""
        return num_kept, num_micro_batches

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """There is one rank alone."""

    def whole(self, tensor: Tensor) -> Tensor:
        """Itself."""
        return tensor.detach()

    def fill(self, tensor: Tensor, values: Tensor) -> None:
        """Copy."""
        with torch.no_grad():
            tensor.copy_(values)

    @contextlib.contextmanager
    def whole_encoder(self) -> Iterator[Encoder]:
        """It is whole."""
        yield self.encoder

    def finish(self) -> None:
        """It can be used as it is."""


class Replicated(SingleProcess):
    """Every rank holds the whole model (data parallel); gradients are added up in buckets."""

    def wrap(self, encoder: Encoder) -> Encoder:
        """Itself, with the weights of rank 0."""
        copy_from_first(encoder)
        return super().wrap(encoder)

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up in buckets of equal content on every rank.

        A parameter that this rank's rows did not reach has no gradient here but may have one
        elsewhere: it takes part with zeros.
        """
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        add_up(parameters)


def agree_on_passes(world: World, num_kept: int, num_micro_batches: int) -> tuple[int, int]:
    """As many passes as the rank with most needs, as much kept as the one with least can."""
    wishes = torch.tensor([-num_kept, num_micro_batches], device=world.device)
    dist.all_reduce(wishes, op=dist.ReduceOp.MAX)
    kept, passes = wishes.tolist()
    return -kept, passes


def copy_from_first(encoder: nn.Module) -> None:
    """Give every rank the weights of rank 0."""
    for tensor in (*encoder.parameters(), *encoder.buffers()):
        dist.broadcast(tensor.detach(), src=0)


def add_up(parameters: Sequence[nn.Parameter]) -> None:
    """Sum of the gradients over ranks, in buckets; every parameter has a gradient."""
    pending = []
    for bucket in _buckets(parameters):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, work in pending:
        work.wait()
        parts = flat.split([gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
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
