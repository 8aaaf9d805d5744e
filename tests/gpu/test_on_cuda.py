"""The equivalences of training and losses on a CUDA device.

``OPENGTE_GPU_TESTS_DEVICE=cpu`` runs them on a processor, to see that they run at all.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from opengte.contracts import StepContext
from opengte.losses.config import ImprovedContrastiveConfig, make_loss
from opengte.losses.contrastive import improved_contrastive_loss
from opengte.losses.tiled import tiled_contrastive_loss
from opengte.models.encoder import Encoder
from opengte.training.activation_memory import measure_activations
from opengte.training.batching import Reader
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.loop import train
from opengte.training.parallel import SingleProcess
from opengte.training.step import TrainingStep

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "training"))

from tiny_training import WordBatches, make_encoder

DEVICE = torch.device(os.environ.get("OPENGTE_GPU_TESTS_DEVICE", "cuda"))
ON_CUDA = DEVICE.type == "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        ON_CUDA and not torch.cuda.is_available(), reason="there is no CUDA device here"
    ),
]
LOSS = ImprovedContrastiveConfig(temperature=0.05)


def gradients_of_step(
    encoder: Encoder, device: torch.device, *, step: int = 1, **settings: Any
) -> tuple[float, dict[str, Tensor]]:
    encoder.to(device)
    config = TrainingConfig(**settings)
    world = World(0, 1, device)
    parallelism = SingleProcess(world)
    parallelism.wrap(encoder)
    one = TrainingStep(
        encoder,
        make_loss(LOSS),
        config,
        world=world,
        reader=Reader.of(encoder, config),
        parallelism=parallelism,
        activations=measure_activations(encoder, max_tokens=48),
        activation_budget=2**40,
    )
    encoder.train()
    encoder.zero_grad()
    outcome = one.run(one.prepare(WordBatches(), step))
    found = {n: p.grad for n, p in encoder.named_parameters()}
    return outcome.loss, {n: g.cpu().clone() for n, g in found.items() if g is not None}


def relative_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    left, right = (torch.cat([x[name].flatten().double() for name in a]) for x in (a, b))
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize("step", [0, 1])
def test_the_gradient_is_the_processor_s(step: int) -> None:
    loss, expected = gradients_of_step(make_encoder(), torch.device("cpu"), step=step)
    found, gradients = gradients_of_step(make_encoder(), DEVICE, step=step)
    assert found == pytest.approx(loss, rel=1e-5)
    assert relative_difference(gradients, expected) < 1e-4


def test_bfloat16_points_the_same_way() -> None:
    """Through flash attention, where the device has it."""
    _, expected = gradients_of_step(make_encoder(), torch.device("cpu"))
    encoder = make_encoder(compute_dtype="bfloat16")
    _, gradients = gradients_of_step(encoder, DEVICE)
    assert relative_difference(gradients, expected) < 5e-2


def test_micro_batched_equals_whole() -> None:
    _, whole = gradients_of_step(make_encoder(), DEVICE, micro_batch_tokens=10_000)
    _, cut = gradients_of_step(make_encoder(), DEVICE, micro_batch_tokens=60)
    assert relative_difference(cut, whole) < 1e-5


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_cached_equals_plain(dropout: float, compute_dtype: str) -> None:
    """Random numbers are replayed; what is left is the order of atomic additions."""
    common = {"micro_batch_tokens": 60}
    encoder = make_encoder(dropout=dropout, compute_dtype=compute_dtype)
    plain, expected = gradients_of_step(encoder, DEVICE, gradient_cache="never", **common)
    cached, gradients = gradients_of_step(encoder, DEVICE, gradient_cache="always", **common)
    limit = 1e-5 if compute_dtype == "float32" else 1e-2
    assert cached == pytest.approx(plain, rel=limit)
    assert relative_difference(gradients, expected) < limit


class Stop(Exception):
    pass


class StopAfter:
    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        if context.step == self.step:
            raise Stop
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def run(folder: Path, *, stop_after: int | None = None, **settings: Any) -> dict[str, Tensor]:
    """Train, and give the weights."""
    config = TrainingConfig(
        **{"num_steps": 8, "learning_rate": 1e-3, "checkpoint_every": 2, **settings}
    )
    encoder = make_encoder()
    train(
        encoder,
        WordBatches(),
        config,
        loss=LOSS,
        folder=folder,
        callbacks=[StopAfter(stop_after)],
        progress=lambda done, total: None,
    )
    return {name: p.detach() for name, p in encoder.cpu().named_parameters()}


def test_resumed_equals_straight_with_dropout(tmp_path: Path) -> None:
    common = {"precision": "float32", "dropout": 0.1, "adam_epsilon": 1e-4}
    straight = run(tmp_path / "straight", **common)
    with pytest.raises(Stop):
        run(tmp_path / "resumed", stop_after=5, **common)
    resumed = run(tmp_path / "resumed", **common)
    assert relative_difference(resumed, straight) < 1e-4


@pytest.mark.skipif(not ON_CUDA, reason="float16 needs a GPU")
def test_float16_with_scaling_learns_what_float32_learns(tmp_path: Path) -> None:
    common = {"dropout": 0.0, "adam_epsilon": 1e-4}
    half = run(tmp_path / "half", precision="float16", **common)
    single = run(tmp_path / "single", precision="float32", **common)
    assert relative_difference(half, single) < 1e-2


def pairs(size: int, dimensions: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(size, dimensions, generator=generator)
    documents = queries + 2 * torch.randn(size, dimensions, generator=generator)
    return queries.to(DEVICE).requires_grad_(), documents.to(DEVICE).requires_grad_()


def value_and_gradient(loss: Any, inputs: tuple[Tensor, Tensor], **settings: Any) -> Tensor:
    value = loss(*inputs, **settings)
    return torch.cat([value.detach().reshape(1), *map(torch.flatten, _gradients(value, inputs))])


def _gradients(value: Tensor, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, inputs)


WAYS = ["exact", "bfloat16"]
if importlib.util.find_spec("triton") is not None and ON_CUDA:
    WAYS += ["triton exact", "triton bfloat16"]


@pytest.mark.parametrize("temperature", [0.01, 0.05])
@pytest.mark.parametrize("way", WAYS)
def test_tiles_and_kernels_equal_the_dense_loss(way: str, temperature: float) -> None:
    inputs = pairs(700)
    exact = tuple(x.detach().double().requires_grad_() for x in inputs)
    dense = value_and_gradient(improved_contrastive_loss, exact, temperature=temperature)
    found = value_and_gradient(
        tiled_contrastive_loss,
        inputs,
        temperature=temperature,
        tile_size=256,
        products=way.split()[-1],
        kernel="triton" if way.startswith("triton") else "torch",
    )
    left, right = found[1:].double(), dense[1:]
    limit = 5e-5 if way.endswith("exact") else 5e-2
    assert float((left - right).norm() / right.norm()) < limit
    assert float(torch.dot(left, right) / left.norm() / right.norm()) > 0.999


@pytest.mark.skipif(not ON_CUDA, reason="what is asked for is the GPU's memory")
def test_65536_pairs_stay_below_a_gigabyte() -> None:
    inputs = pairs(65_536, 384)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.autograd.grad(tiled_contrastive_loss(*inputs, temperature=0.01), inputs)
    assert torch.cuda.max_memory_allocated() - before < 1e9
