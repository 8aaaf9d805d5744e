from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from opengte.training.schedule import learning_rate_factor


@given(
    num_steps=st.integers(1, 300),
    warmup=st.floats(0, 0.9),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    final=st.floats(0, 0.9),
)
def test_rises_to_the_peak_then_never_rises(
    num_steps: int, warmup: float, schedule: str, final: float
) -> None:
    factors = [
        learning_rate_factor(step, num_steps, warmup=warmup, schedule=schedule, final=final)  # type: ignore[arg-type]
        for step in range(num_steps)
    ]
    first = round(warmup * num_steps)
    rising, falling = factors[: first + 1], factors[first:]
    assert all(0 < factor <= 1 for factor in factors)
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert all(factor >= final - 1e-12 for factor in falling)
    if falling:
        assert falling[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)],
)
def test_falls_like_the_schedules_of_transformers(schedule: str, theirs: object) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = theirs(optimizer, num_warmup_steps=0, num_training_steps=40)  # type: ignore[operator]
    for step in range(40):
        ours = learning_rate_factor(step, 40, warmup=0.0, schedule=schedule)  # type: ignore[arg-type]
        assert ours == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()
