from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.models import attention
from opengte.models.attention import packed_attention
from opengte.models.length_groups import make_length_groups

HEADS, SIZE = 3, 4


def qkv_of(lengths, *, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((sum(lengths), 3, HEADS, SIZE), generator=generator).to(dtype)


def groups_of(lengths, tolerance=8):
    return make_length_groups(
        np.array(lengths), num_heads=HEADS, device=torch.device("cpu"), tolerance=tolerance
    )


def by_definition(qkv, lengths):
    """softmax(q k^T / sqrt(D)) v, text by text and head by head."""
    parts = []
    for text in qkv.split(list(lengths)):
        heads = []
        for head in range(HEADS):
            query, key, value = text[:, 0, head], text[:, 1, head], text[:, 2, head]
            heads.append(torch.softmax(query @ key.T / SIZE**0.5, -1) @ value)
        parts.append(torch.stack(heads, 1))
    return torch.cat(parts)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8), tolerance=st.integers(1, 10))
def test_equals_the_definition_with_its_gradient(lengths, tolerance):
    qkv = qkv_of(lengths)
    groups = groups_of(lengths, tolerance)
    weights = torch.randn(sum(lengths), HEADS, SIZE)
    mine, theirs = qkv.clone().requires_grad_(), qkv.clone().requires_grad_()
    out = packed_attention(mine, groups)
    expected = by_definition(theirs, lengths)
    assert torch.allclose(out, expected, atol=1e-5)
    assert torch.allclose(packed_attention(qkv, groups), expected, atol=1e-5)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


@pytest.mark.parametrize("length", [7, 32, 45, 64])
def test_bfloat16_stays_near_float32(length):
    lengths = [length, length - 3, 5]
    qkv = qkv_of(lengths, dtype=torch.bfloat16).requires_grad_()
    wide = qkv.detach().float().requires_grad_()
    weights = torch.randn(sum(lengths), HEADS, SIZE)
    out, expected = packed_attention(qkv, groups_of(lengths)), by_definition(wide, lengths)
    assert (out.float() - expected).abs().max() < 0.03
    (out.float() * weights).sum().backward()
    (expected * weights).sum().backward()
    close = torch.cosine_similarity(qkv.grad.float().flatten(), wide.grad.flatten(), dim=0)
    assert close > 0.999


def test_no_text_sees_another():
    lengths = [5, 9, 6]
    qkv = qkv_of(lengths)
    changed = qkv.clone()
    changed[5:14] = torch.randn_like(changed[5:14])
    before = packed_attention(qkv, groups_of(lengths))
    after = packed_attention(changed, groups_of(lengths))
    assert torch.equal(before[:5], after[:5])
    assert torch.equal(before[14:], after[14:])
    assert not torch.allclose(before[5:14], after[5:14])


@pytest.mark.parametrize("lengths", [[6, 6], [6, 4]])
def test_dropped_probabilities_give_the_gradient_of_the_dropped_product(monkeypatch, lengths):
    masks = []
    draw = attention.keep_mask

    def remember(*args):
        masks.append(draw(*args))
        return masks[-1]

    monkeypatch.setattr(attention, "keep_mask", remember)
    torch.manual_seed(0)
    mine = qkv_of(lengths).requires_grad_()
    out = packed_attention(mine, groups_of(lengths), dropout=0.4, training=True)
    (mask,) = masks
    scale = attention.keep_scale(0.4)
    kept = (mask != 0).view(2, HEADS, 6, 6) * scale
    theirs = qkv_of(lengths).requires_grad_()
    parts = []
    for i, text in enumerate(theirs.split(lengths)):
        query, key, value = text.unbind(1)
        length = lengths[i]
        probabilities = torch.einsum("qhd,khd->hqk", query, key).div(SIZE**0.5).softmax(-1)
        dropped = probabilities * kept[i, :, :length, :length]
        parts.append(torch.einsum("hqk,khd->qhd", dropped, value))
    expected = torch.cat(parts)
    assert torch.allclose(out, expected, atol=1e-5)
    weights = torch.randn_like(expected)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


def test_probabilities_are_dropped_only_in_training():
    lengths = [8]
    qkv = qkv_of(lengths)
    plain = packed_attention(qkv, groups_of(lengths))
    assert torch.equal(plain, packed_attention(qkv, groups_of(lengths), dropout=0.5))
    dropped = packed_attention(qkv, groups_of(lengths), dropout=0.5, training=True)
    assert not torch.allclose(plain, dropped)
