"""One loss, once, in a process of its own: CPU seconds and peak memory as one line of JSON.

A process of its own, because peak memory cannot be measured twice in one, and because torch
keeps what it has allocated.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from pathlib import Path

import torch
from torch import Tensor

from opengte.losses.contrastive import improved_contrastive_loss
from opengte.losses.tiled import tiled_contrastive_loss

TEMPERATURE = 0.01
"""GTE's."""


def pairs(size: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Unit vectors in 200 clusters; a pair has cosine 0.55, a cluster 0.5, strangers 0."""
    generator = torch.Generator().manual_seed(0)

    def add_noise(target: Tensor, share: float) -> None:
        # In slices, so that making the input does not set the peak of memory.
        for part in target.split(1024):
            values = torch.randn(part.shape, generator=generator)
            part.add_(torch.nn.functional.normalize(values, dim=1), alpha=share**0.5)

    centres = torch.zeros(200, dimensions)
    add_noise(centres, 0.5)
    queries = centres[torch.randint(200, (size,), generator=generator)]
    add_noise(queries, 0.05)
    documents = queries.clone()
    for side in (queries, documents):
        add_noise(side, 0.45)
        for part in side.split(1024):
            part.div_(part.norm(dim=1, keepdim=True))
    return queries.requires_grad_(), documents.requires_grad_()


def dense_loss(queries: Tensor, documents: Tensor) -> Tensor:
    return improved_contrastive_loss(queries, documents, temperature=TEMPERATURE)


def dense_loss_in_powers_of_two(queries: Tensor, documents: Tensor) -> Tensor:
    """The dense loss, with 2^x in the place of e^x; the positive stands twice in Z, as printed."""
    scale = (math.log2(math.e) / TEMPERATURE) ** 0.5
    q, d = (torch.nn.functional.normalize(x, dim=1) * scale for x in (queries, documents))
    across = q @ d.T
    blocks = [across, across.T]
    for side in (q, d):
        block = side @ side.T
        block.diagonal().fill_(-math.inf)
        blocks.append(block)
    sums = torch.stack([_log2_of_sum(block) for block in blocks])
    positive = across.diagonal()
    return (_log2_of_sum(sums.T) - positive).mean() * math.log(2)


def _log2_of_sum(logits: Tensor) -> Tensor:
    peaks = logits.detach().amax(1, keepdim=True)
    return (logits - peaks).exp2().sum(1).log2() + peaks[:, 0]


def tiled_loss(queries: Tensor, documents: Tensor) -> Tensor:
    return tiled_contrastive_loss(queries, documents, temperature=TEMPERATURE)


def tiled_bfloat16_loss(queries: Tensor, documents: Tensor) -> Tensor:
    return tiled_contrastive_loss(queries, documents, temperature=TEMPERATURE, products="bfloat16")


def sentence_transformers_loss(queries: Tensor, documents: Tensor) -> Tensor:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    loss = MultipleNegativesRankingLoss(
        torch.nn.Identity(),
        scale=1 / TEMPERATURE,
        directions=("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"),
        partition_mode="joint",
    )
    return loss.compute_loss_from_embeddings([queries, documents], torch.empty(0))


LOSSES = {
    "dense float32": dense_loss,
    "dense float32, powers of two": dense_loss_in_powers_of_two,
    "tiled float32": tiled_loss,
    "tiled bfloat16": tiled_bfloat16_loss,
    "sentence-transformers float32": sentence_transformers_loss,
}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def present_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(name: str, size: int, dimensions: int) -> dict[str, float]:
    torch.set_num_threads(1)
    loss = LOSSES[name]
    empty = present_mib()
    small = pairs(1024, dimensions)
    torch.autograd.grad(loss(*small), small)  # code pages and kernels, before the clock starts
    inputs = pairs(size, dimensions)
    given = sum(x.nbytes for x in inputs) / 2**20
    start = time.process_time()
    value = loss(*inputs)
    middle = time.process_time()
    gradient = torch.autograd.grad(value, inputs)
    end = time.process_time()
    return {
        "forward_cpu_seconds": middle - start,
        "backward_cpu_seconds": end - middle,
        "cpu_seconds": end - start,
        "extra_mib": peak_mib() - empty - given,
        "total_mib": peak_mib(),
        "loss": value.item(),
        "gradient_norm": gradient[0].norm().item(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=LOSSES)
    parser.add_argument("size", type=int)
    parser.add_argument("--dimensions", type=int, default=384)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.name, arguments.size, arguments.dimensions)))
