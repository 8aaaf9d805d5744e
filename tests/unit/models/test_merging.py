from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.models.encoder import Encoder
from opengte.models.merging import interpolate, merge_linear, merge_slerp, slerp


@pytest.fixture
def others(tiny_encoder):
    """Three encoders with different weights."""
    result = []
    for seed in range(3):
        other = copy.deepcopy(tiny_encoder)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        result.append(other)
    return result


def by_definition(a, b, share):
    """Shoemake's formula in plain Python."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    angle = math.acos(max(-1.0, min(1.0, dot / lengths)))
    left = math.sin((1 - share) * angle) / math.sin(angle)
    right = math.sin(share * angle) / math.sin(angle)
    return [left * x + right * y for x, y in zip(a, b, strict=True)]


numbers = st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3)


@settings(max_examples=100, deadline=None)
@given(a=numbers, b=numbers, share=st.floats(0, 1))
def test_slerp_equals_its_formula(a, b, share):
    first, second = torch.tensor(a).double(), torch.tensor(b).double()
    lengths = float(first.norm() * second.norm())
    cosine = float(first @ second) / lengths if lengths else 1.0
    result = slerp(first, second, share)
    if lengths == 0 or abs(cosine) > 1 - 1e-9:
        assert torch.allclose(result, (1 - share) * first + share * second)
    else:
        expected = torch.tensor(by_definition(first.tolist(), second.tolist(), share)).double()
        assert torch.allclose(result, expected, atol=1e-9)


def test_slerp_keeps_shape_and_format_and_meets_its_ends():
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    assert slerp(a, b, 0.5).shape == (3, 4)
    assert slerp(a.half(), b.half(), 0.5).dtype == torch.float16
    assert torch.allclose(slerp(a, b, 0.0), a)
    assert torch.allclose(slerp(a, b, 1.0), b)
    assert torch.equal(slerp(a, a, 0.3), a)


def test_slerp_of_unit_vectors_stays_on_the_sphere():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert slerp(a, b, 0.5).norm() == pytest.approx(1.0)


def test_several_are_merged_one_after_the_other(others):
    merged = merge_slerp(others, [1.0, 2.0, 3.0])
    for name, value in merged.state_dict().items():
        a, b, c = (other.state_dict()[name] for other in others)
        expected = slerp(slerp(a, b, 2 / 3), c, 3 / 6)
        assert torch.allclose(value, expected, atol=1e-6)


def test_linear_is_the_weighted_sum(others):
    merged = merge_linear(others, [0.5, 0.3, 0.2])
    for name, value in merged.state_dict().items():
        a, b, c = (other.state_dict()[name] for other in others)
        assert torch.allclose(value, 0.5 * a + 0.3 * b + 0.2 * c, atol=1e-6)


def test_interpolation_meets_both_ends_and_leaves_them_alone(others, words):
    a, b, _ = others
    texts = words([5, 20])
    before = a.encode(texts)
    for weight, end in ((1.0, a), (0.0, b)):
        assert np.allclose(interpolate(a, b, weight).encode(texts), end.encode(texts), atol=1e-5)
    middle = interpolate(a, b, 0.5)
    assert not np.allclose(middle.encode(texts), before, atol=1e-3)
    assert np.array_equal(a.encode(texts), before)
    assert middle.space.revision not in (a.space.revision, b.space.revision)


def test_equal_encoders_merge_to_themselves(tiny_encoder):
    for merged in (merge_slerp([tiny_encoder] * 3), interpolate(tiny_encoder, tiny_encoder, 0.4)):
        for name, value in merged.state_dict().items():
            assert torch.allclose(value, tiny_encoder.state_dict()[name], atol=1e-6)


def test_weights_outside_their_range_are_refused(others):
    a, b, _ = others
    with pytest.raises(ConfigError, match=r"weight must be in \[0, 1\], got 1.5"):
        interpolate(a, b, 1.5)
    with pytest.raises(ConfigError, match="2 encoders need as many weights, got 1"):
        merge_linear([a, b], [1.0])
    with pytest.raises(ConfigError, match="2 encoders need as many weights, got 3"):
        merge_slerp([a, b], [1.0, 1.0, 1.0])
    with pytest.raises(ConfigError, match="weights must be > 0, got 0"):
        merge_slerp([a, b], [1.0, 0])
    with pytest.raises(ConfigError, match="0 encoders"):
        merge_linear([], [])


def test_other_architectures_are_refused(tiny_encoder, bert_config, tiny_tokenizer):
    from opengte.models.building import new_backbone

    smaller = new_backbone({**bert_config, "num_hidden_layers": 1}, seed=0)
    other = Encoder(smaller, tiny_tokenizer, tiny_encoder.settings)
    with pytest.raises(ConfigError, match=r"encoders 0 and 1 differ .* backbone.layers.1"):
        interpolate(tiny_encoder, other, 0.5)
    wider = new_backbone({**bert_config, "intermediate_size": 40}, seed=0)
    other = Encoder(wider, tiny_tokenizer, tiny_encoder.settings)
    with pytest.raises(ConfigError, match=r"cannot be merged: .*feed_forward"):
        merge_slerp([tiny_encoder, other])
