"""What a run took in memory is given back when its results are let go, without the collector.

Runs in one process (a grid, a notebook, the stages of a recipe) would otherwise pile up models,
moments and graphs: tensors are few objects, so Python's collector hardly ever comes by.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from opengte.losses.config import ImprovedContrastiveConfig
from opengte.models.encoder import Encoder
from opengte.training.activation_memory import measure_activations
from opengte.training.config import TrainingConfig
from opengte.training.loop import train


def live_tensors() -> list[torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some modules warn when they are looked at
        return [each for each in gc.get_objects() if isinstance(each, torch.Tensor)]


@pytest.mark.parametrize("gradient_cache", ["auto", "always"])
def test_a_finished_run_leaves_no_tensor_behind(
    tmp_path: Path,
    new_encoder: Callable[..., Encoder],
    new_batches: Callable[..., object],
    gradient_cache: str,
) -> None:
    def train_once(name: str) -> weakref.ref[Encoder]:
        encoder = new_encoder()
        config = TrainingConfig(
            num_steps=3,
            learning_rate=1e-3,
            checkpoint_every=2,
            gradient_cache=gradient_cache,  # type: ignore[arg-type]
        )
        loss = ImprovedContrastiveConfig(temperature=0.05)
        train(encoder, new_batches(), config, loss=loss, folder=tmp_path / name)  # type: ignore[arg-type]
        return weakref.ref(encoder)

    train_once("first")
    gc.collect()
    before = {id(each) for each in live_tensors()}
    gc.disable()
    try:
        encoder = train_once("second")
        assert encoder() is None
        assert [each.shape for each in live_tensors() if id(each) not in before] == []
    finally:
        gc.enable()


def test_measuring_activations_leaves_no_graph_behind(new_encoder: Callable[..., Encoder]) -> None:
    encoder = new_encoder()
    measure_activations(encoder, max_tokens=48)
    gc.collect()
    before = len(live_tensors())
    measure_activations(encoder, max_tokens=48)
    gc.collect()  # what holds itself through autograd is out of the collector's sight
    assert len(live_tensors()) == before
