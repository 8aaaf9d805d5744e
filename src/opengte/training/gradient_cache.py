"""Micro-batches -> embeddings without their graphs, and later gradients through them.

Gradient caching (Gao et al. 2021, arXiv:2101.06983): the loss needs the embeddings of the whole
batch, its gradient reaches the weights through one micro-batch at a time. Activations are kept
for as many micro-batches as fit, and computed again, with the same random numbers, for the rest.

Gradients are added up in the order of the micro-batches whichever way each was treated, so the
result does not depend on how many were kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.training.activation_memory import ActivationModel
from opengte.training.batching import MicroBatch
from opengte.training.random_state import derive_seed, seeded

Forward = Callable[[MicroBatch], Float[Tensor, "N D"]]


def num_kept(
    micro_batches: Sequence[MicroBatch],
    model: ActivationModel,
    *,
    mode: Literal["auto", "always", "never"],
    budget: int,
) -> int:
    """How many micro-batches, from the first on, may keep their activations.

    Args:
        micro_batches: in their order.
        model: what they take.
        mode: ``always`` caches gradients, so keeps none; ``never`` keeps all.
        budget: bytes for kept activations and those of one micro-batch that is recomputed.
    """
    if mode != "auto":
        return 0 if mode == "always" else len(micro_batches)
    sizes = [model.predict(micro_batch.lengths) for micro_batch in micro_batches]
    if sum(sizes) <= budget:
        return len(sizes)
    total = 0.0
    for number, size in enumerate(sizes):
        total += size
        if total + max(sizes[number + 1 :], default=0.0) > budget:
            return number
    return len(sizes)


class GradientCache:
    """Encodes the micro-batches of one step, twice where their activations cannot stay.

    Args:
        forward: micro-batch -> embeddings.
        num_kept: micro-batches, from the first on, whose activations stay.
        num_passes: passes through the encoder that all ranks make; where this rank's
            micro-batches are fewer it repeats the last one without effect, so that sharded
            ranks meet in every pass.
        seed: the name of this step and rank among all random numbers.
        device: where the encoder runs.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        num_kept: int,
        num_passes: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.forward = forward
        self.num_kept = num_kept
        self.num_passes = num_passes
        self.seed = seed
        self.device = device
        self._kept: dict[int, Tensor] = {}
        self._micro_batches: Sequence[MicroBatch] = ()

    def embed(self, micro_batches: Sequence[MicroBatch]) -> Float[Tensor, "N D"]:
        """Embed all texts, in the order of their positions, without a graph."""
        self._micro_batches = micro_batches
        outputs = []
        for number in range(self.num_passes):
            output = self._run(number, with_graph=number < self.num_kept)
            if number < self.num_kept:
                self._kept[number] = output
            if number < len(micro_batches):
                outputs.append(output.detach())
        positions = torch.cat([torch.from_numpy(m.positions) for m in micro_batches])
        joined = torch.cat(outputs)
        embeddings = torch.empty_like(joined)
        embeddings[positions.to(joined.device)] = joined
        return embeddings

    def backward(
        self,
        gradients: Float[Tensor, "N D"],
        *,
        around: Callable[[bool], contextlib.AbstractContextManager[None]],
    ) -> None:
        """Send the gradient of the embeddings on to the weights.

        Args:
            gradients: of the loss, in the order of the positions.
            around: given whether a micro-batch is the last, the context for its forward and
                backward pass (ranks talk to each other in the last alone).
        """
        for number in range(self.num_passes):
            with around(number == self.num_passes - 1):
                output = self._kept.pop(number, None)
                if output is None:
                    output = self._run(number, with_graph=True)
                if output.requires_grad:  # not where only what stands behind the leaf learns
                    output.backward(self._gradient_of(number, gradients).to(output.dtype))

    def _run(self, number: int, *, with_graph: bool) -> Tensor:
        own = min(number, len(self._micro_batches) - 1)
        with (
            torch.set_grad_enabled(with_graph),
            seeded(derive_seed(self.seed, number), self.device),
        ):
            return self.forward(self._micro_batches[own])

    def _gradient_of(self, number: int, gradients: Tensor) -> Tensor:
        own = min(number, len(self._micro_batches) - 1)
        positions = torch.from_numpy(self._micro_batches[own].positions)
        gradient = gradients[positions.to(gradients.device)]
        return gradient if number == own else torch.zeros_like(gradient)
