from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from opengte.records import Batch
from opengte.training.divergence import WINDOW, DivergenceError, DivergenceGuard


@pytest.fixture
def batch(new_batches: Callable[..., object]) -> Batch:
    return new_batches().batch(7)  # type: ignore[attr-defined, no-any-return]


def feed(guard: DivergenceGuard, batch: Batch, loss: float, times: int = WINDOW) -> None:
    for _ in range(times):
        guard.check_loss(loss, batch, bad_rows=[])


def test_a_loss_that_is_no_number_names_source_and_rows(batch: Batch) -> None:
    with pytest.raises(DivergenceError) as caught:
        DivergenceGuard(5.0).check_loss(math.nan, batch, bad_rows=[2, 5])
    message = str(caught.value)
    assert "the loss of step 8 is nan" in message
    assert 'embeddings are not finite for rows 86, 89 of source "triplets"' in message
    assert "lower learning_rate" in message


def test_all_rows_are_named_where_no_embedding_is_to_blame(batch: Batch) -> None:
    with pytest.raises(DivergenceError, match=r"rows 84, 85, .* \(12 in all\) of source"):
        DivergenceGuard(5.0).check_loss(math.inf, batch, bad_rows=[])


def test_a_gradient_that_is_no_number_names_source_and_rows(batch: Batch) -> None:
    with pytest.raises(DivergenceError, match=r'gradient of step 8 is inf: rows .* "triplets"'):
        DivergenceGuard(5.0).check_gradient(math.inf, batch)


def test_an_exploding_loss_stops(batch: Batch) -> None:
    guard = DivergenceGuard(5.0)
    feed(guard, batch, 1.0)
    with pytest.raises(DivergenceError, match=r"exploded: .* source 'triplets', 1 at its start"):
        feed(guard, batch, 9.0)


def test_one_hard_batch_does_not_stop(batch: Batch) -> None:
    guard = DivergenceGuard(5.0)
    feed(guard, batch, 1.0)
    feed(guard, batch, 50.0, times=1)
    feed(guard, batch, 1.0)


def test_tiny_losses_may_grow_manifold(batch: Batch) -> None:
    guard = DivergenceGuard(5.0)
    feed(guard, batch, 0.001)
    feed(guard, batch, 0.5)


def test_sources_are_watched_apart(new_batches: Callable[..., object]) -> None:
    guard = DivergenceGuard(5.0)
    batches = new_batches()
    feed(guard, batches.batch(0), 0.1)  # type: ignore[attr-defined]
    feed(guard, batches.batch(1), 9.0)  # type: ignore[attr-defined]


def test_goes_on_as_if_never_interrupted(batch: Batch) -> None:
    straight, first = DivergenceGuard(5.0), DivergenceGuard(5.0)
    feed(straight, batch, 1.0, times=20)
    feed(first, batch, 1.0, times=9)
    second = DivergenceGuard(5.0)
    second.load_state_dict(first.state_dict())
    feed(second, batch, 1.0, times=11)
    assert second.state_dict() == straight.state_dict()
