from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.model_modules import PoolingMode
from opengte.models.packing import pack
from opengte.models.pooling import pool


def by_hand(states, mask, mode):
    """One text, token by token."""
    kept = [i for i in range(len(states)) if mask[i]]
    rows = states[kept]
    weights = torch.tensor([i + 1.0 for i in kept])[:, None]
    return {
        "mean": lambda: rows.mean(0),
        "cls": lambda: rows[0],
        "last_token": lambda: rows[-1],
        "weighted_mean": lambda: (rows * weights).sum(0) / weights.sum(),
        "max": lambda: rows.max(0).values,
        "mean_sqrt_length": lambda: rows.sum(0) / len(kept) ** 0.5,
    }[mode]()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), mode=st.sampled_from(get_args(PoolingMode)))
def test_equals_token_by_token_loops(random_texts, data, mode):
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    prompts = [data.draw(st.integers(0, length)) for length in lengths]
    texts = random_texts(lengths, prompts=prompts)
    for exclude in (False, True):
        packed = pack(texts, exclude_prompt_from_pooling=exclude)
        states = torch.randn(sum(lengths), 5, generator=torch.Generator().manual_seed(0))
        parts = zip(states.split(lengths), packed.pooling_mask.split(lengths), strict=True)
        expected = torch.stack([by_hand(part, mask, mode) for part, mask in parts])
        assert torch.allclose(pool(states, packed, mode=mode), expected, atol=1e-5)


@pytest.mark.parametrize("mode", get_args(PoolingMode))
def test_gradients_reach_the_tokens_that_take_part(random_texts, mode):
    packed = pack(random_texts([4, 3], prompts=[2, 0]), exclude_prompt_from_pooling=True)
    states = torch.randn(7, 5, requires_grad=True)
    (pool(states, packed, mode=mode) ** 2).sum().backward()
    assert (states.grad[:2] == 0).all()
    assert (states.grad[2:] != 0).any()


def test_sums_are_taken_in_float32(random_texts):
    packed = pack(random_texts([3000]))
    states = torch.full((3000, 2), 1.0, dtype=torch.bfloat16)
    vector = pool(states, packed, mode="mean")
    assert vector.dtype == torch.float32
    assert torch.equal(vector, torch.ones(1, 2))
