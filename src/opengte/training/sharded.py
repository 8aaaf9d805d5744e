"""Every rank holds a part of every weight, gradient and moment (fully sharded, FSDP2).

A layer's weights are gathered when its forward or backward pass begins and dropped when it ends
(Zhao et al. 2023, arXiv:2304.11277). Each pass through the encoder is therefore a meeting of all
ranks: they agree on the number of passes before a step begins, whatever each of them holds.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from opengte.training.parallel import SingleProcess, add_up, agree_on_passes, copy_from_first

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


class Sharded(SingleProcess):
    """Shards a copy of an encoder over all ranks, layer by layer."""

    def wrap(self, encoder: Encoder) -> Encoder:
        """A copy with the weights of rank 0, of which this rank keeps a part."""
        self.original = encoder.to("cpu")
        tokenizer = {id(encoder.tokenizer): encoder.tokenizer}  # shared, not copied
        self.encoder = copy.deepcopy(encoder, tokenizer).to(self.world.device)
        copy_from_first(self.encoder)
        mesh = init_device_mesh(self.world.device.type, (self.world.size,))
        for layer in repeated_layers(self.encoder):
            fully_shard(layer, mesh=mesh)
        fully_shard(self.encoder, mesh=mesh)
        for module in self._parts():
            # Losses are divided by the global number of pairs, so gradients are added up.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
        return self.encoder

    @contextlib.contextmanager
    def around(self, is_last: bool) -> Iterator[None]:
        """Ranks add up their gradients in the last backward pass alone."""
        assert isinstance(self.encoder, FSDPModule)
        self.encoder.set_requires_gradient_sync(is_last)
        self.encoder.set_is_last_backward(is_last)
        yield

    def agree(self, num_kept: int, num_micro_batches: int) -> tuple[int, int]:
        """Every rank makes as many passes as the others, and keeps the same ones."""
        return agree_on_passes(self.world, num_kept, num_micro_batches)

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sharded ones are added up already; a loss's own parameters are not."""
        plain = [p for p in parameters if not isinstance(p, DTensor)]
        for parameter in plain:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        add_up(plain)

    def whole(self, tensor: Tensor) -> Tensor:
        """Gather; every rank must ask."""
        tensor = tensor.detach()
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def fill(self, tensor: Tensor, values: Tensor) -> None:
        """Every rank has the whole values and takes its part."""
        values = values.to(tensor.device)
        with torch.no_grad():
            if isinstance(tensor, DTensor):
                values = distribute_tensor(
                    values, tensor.device_mesh, tensor.placements, src_data_rank=None
                )
            tensor.copy_(values)

    @contextlib.contextmanager
    def whole_encoder(self) -> Iterator[Encoder]:
        """Gather all weights, so that forward passes need no other rank."""
        for module in self._parts():
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        yield self.encoder
        for module in self._parts():
            module.set_reshard_after_forward(module is not self.encoder, recurse=False)
            module.reshard()

    def finish(self) -> None:
        """Bring the weights back into the encoder that was copied."""
        own = dict(self.original.to(self.world.device).named_parameters())
        with torch.no_grad():
            for name, parameter in self.encoder.named_parameters():
                own[name].copy_(self.whole(parameter))

    def _parts(self) -> Iterator[FSDPModule]:
        return (module for module in self.encoder.modules() if isinstance(module, FSDPModule))


def repeated_layers(encoder: nn.Module) -> Iterator[nn.Module]:
    """The layers of the backbone: the modules of its longest ``ModuleList``."""
    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    yield from max(lists, key=len, default=nn.ModuleList())
