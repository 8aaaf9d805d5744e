"""The gradient of a step on real weights and texts, at the temperatures that are trained with.

The reference is transformers' own padded model, mean pooling and the dense loss, everything at
once: no micro-batches, no packing, no cache, no tiles.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opengte.losses.config import ImprovedContrastiveConfig, make_loss
from opengte.losses.contrastive import improved_contrastive_loss
from opengte.models.encoder import Encoder
from opengte.models.weights import load_encoder
from opengte.records import Batch
from opengte.training.activation_memory import measure_activations
from opengte.training.batching import Reader
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.parallel import SingleProcess
from opengte.training.step import TrainingStep

MAX_TOKENS = 16


@dataclass(frozen=True)
class RealBatch:
    """Docstrings' first lines and what follows them."""

    queries: tuple[str, ...]
    positives: tuple[str, ...]

    def batch(self, step: int) -> Batch:
        size = len(self.queries)
        return Batch(
            step=step,
            source="docstrings",
            queries=self.queries,
            positives=self.positives,
            negatives=((),) * size,
            row_ids=np.arange(size),
            row_sources=("docstrings",) * size,
        )


@pytest.fixture(scope="module")
def batch() -> RealBatch:
    names = ("linear", "softmax", "dropout", "embedding", "normalize", "pad")
    texts = [inspect.getdoc(getattr(nn.functional, name)) or name for name in names]
    lines = [[line.strip() for line in text.splitlines() if line.strip()] for text in texts]
    return RealBatch(
        tuple(part[0] for part in lines), tuple(" ".join(part[1:4]) or part[0] for part in lines)
    )


@pytest.fixture(scope="module")
def encoder(minilm_folder: Path) -> Encoder:
    return load_encoder(minilm_folder, max_tokens=MAX_TOKENS, dropout=0.0, dtype="float32")


def gradients_of_step(
    encoder: Encoder, batch: RealBatch, temperature: float, *, tiled: bool, **settings: object
) -> tuple[float, dict[str, Tensor]]:
    config = TrainingConfig(**settings)  # type: ignore[arg-type]
    world = World(0, 1, torch.device("cpu"))
    parallelism = SingleProcess(world)
    parallelism.wrap(encoder)
    step = TrainingStep(
        encoder,
        make_loss(ImprovedContrastiveConfig(temperature=temperature, tiled=tiled)),
        config,
        reader=Reader.of(encoder, config),
        world=world,
        parallelism=parallelism,
        activations=measure_activations(encoder, max_tokens=MAX_TOKENS),
        activation_budget=2**40,
    )
    encoder.train()
    encoder.zero_grad()
    outcome = step.run(step.prepare(batch, 0))
    own = gradients(encoder.backbone)
    return outcome.loss, dict(encoder.backbone.to_checkpoint(own))


@pytest.fixture(scope="module")
def padded_model(minilm_folder: Path) -> nn.Module:
    from transformers import AutoModel

    return AutoModel.from_pretrained(minilm_folder, attn_implementation="eager").eval()


def padded_gradients(
    model: nn.Module, encoder: Encoder, batch: RealBatch, temperature: float
) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    texts = encoder.tokenize([*batch.queries, *batch.positives])
    longest = max(len(text.ids) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = torch.from_numpy(text.ids.astype(np.int64))
        mask[row, : len(text.ids)] = 1
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    queries, documents = means.split(len(batch.queries))
    loss = improved_contrastive_loss(queries, documents, temperature=temperature)
    loss.backward()
    return loss.item(), gradients(model)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in module.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def relative_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    left, right = (torch.cat([x[name].flatten().double() for name in a]) for x in (a, b))
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize("temperature", [0.01, 0.05])
def test_every_way_to_cut_a_step_gives_the_padded_gradient(
    encoder: Encoder, padded_model: nn.Module, batch: RealBatch, temperature: float
) -> None:
    loss, expected = padded_gradients(padded_model, encoder, batch, temperature)
    whole = gradients_of_step(encoder, batch, temperature, tiled=False)
    cut = {"micro_batch_tokens": 60, "tiled": True}
    kept = gradients_of_step(encoder, batch, temperature, gradient_cache="never", **cut)
    cached = gradients_of_step(encoder, batch, temperature, gradient_cache="always", **cut)
    assert whole[0] == pytest.approx(loss, rel=1e-5)
    assert relative_difference(whole[1], expected) < 2e-5
    assert kept[0] == pytest.approx(loss, rel=1e-5)
    assert relative_difference(kept[1], expected) < 2e-5
    assert cached[0] == kept[0]
    assert all(torch.equal(cached[1][name], kept[1][name]) for name in expected)
