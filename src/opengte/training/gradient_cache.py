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
from torch import Tensor, nn

from opengte.training.activation_memory import KeptBytes
from opengte.training.batching import MicroBatch
from opengte.training.random_state import derive_seed, seeded

Forward = Callable[[MicroBatch], Float[Tensor, "N D"]]


class GradientCache:
    """Encodes the micro-batches of one step, twice where their activations cannot stay.

    Args:
        module: the encoder; its parameters are not counted as activations.
        forward: micro-batch -> embeddings.
        mode: ``always`` keeps no activations, ``never`` keeps all.
        budget: bytes that kept activations may take, with mode ``auto``.
        seed: the name of this step and rank among all random numbers.
        device: where the encoder runs.
        num_passes: passes through the encoder that all ranks make; where this rank's
            micro-batches are fewer it repeats the last one without effect, so that sharded
            ranks meet in every pass.
    """

    def __init__(
        self,
        module: nn.Module,
        forward: Forward,
        *,
        mode: Literal["auto", "always", "never"],
        budget: int,
        seed: int,
        device: torch.device,
        num_passes: int = 0,
    ) -> None:
        self.num_passes = num_passes
        self.forward = forward
        self.mode = mode
        self.budget = budget
        self.seed = seed
        self.device = device
        self.kept_bytes = KeptBytes(module)
        self._kept: dict[int, Tensor] = {}
        self._bytes_per_token = 0.0
        self._micro_batches: Sequence[MicroBatch] = ()

    @property
    def num_recomputed(self) -> int:
        """Micro-batches that go through the encoder twice."""
        return len(self._micro_batches) - len(self._kept)

    def embed(self, micro_batches: Sequence[MicroBatch]) -> Float[Tensor, "N D"]:
        """Embed all texts, in the order of their positions, without a graph."""
        self._micro_batches = micro_batches
        self._kept = {}
        outputs = []
        keep = True
        for number, micro_batch in enumerate(micro_batches):
            # One behind the other: what is kept is always a beginning of the list.
            keep = keep and self._fits(number, micro_batch)
            output = self._run(number, keep=keep)
            if keep:
                self._kept[number] = output
            outputs.append(output.detach())
        for _ in range(len(micro_batches), self.num_passes):
            self._run(len(micro_batches) - 1, keep=False)
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
        num_own = len(self._micro_batches)
        num_passes = max(num_own, self.num_passes)
        for number in range(num_passes):
            own = min(number, num_own - 1)
            positions = torch.from_numpy(self._micro_batches[own].positions)
            gradient = gradients[positions.to(gradients.device)]
            with around(number == num_passes - 1):
                output = self._kept.pop(number, None)
                if output is None:
                    output = self._run(own, keep=True, count=False)
                gradient = gradient if number < num_own else torch.zeros_like(gradient)
                output.backward(gradient.to(output.dtype))

    def _run(self, number: int, *, keep: bool, count: bool = True) -> Tensor:
        micro_batch = self._micro_batches[number]
        before = self.kept_bytes.total
        counting = self.kept_bytes.counted() if keep and count else contextlib.nullcontext()
        with (
            torch.set_grad_enabled(keep),
            seeded(derive_seed(self.seed, number), self.device),
            counting,
        ):
            output = self.forward(micro_batch)
        if keep and count:
            grown = self.kept_bytes.total - before
            self._bytes_per_token = max(
                self._bytes_per_token, grown / max(1, micro_batch.num_tokens)
            )
        return output

    def _fits(self, number: int, micro_batch: MicroBatch) -> bool:
        """Whether this one's activations may stay, with room left to recompute a later one."""
        if self.mode != "auto":
            return self.mode == "never"
        if number == 0:
            return True  # one must fit in any case; it also shows what a token takes
        is_last = number == len(self._micro_batches) - 1
        wanted = (1 if is_last else 2) * self._bytes_per_token * micro_batch.num_tokens
        return self.kept_bytes.total + wanted <= self.budget
