"""Each backbone, packed, against transformers' own forward pass on padded inputs."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from opengte.model_modules import PoolingMode
from opengte.models.building import build_backbone
from opengte.models.packing import pack
from opengte.models.pooling import pool
from opengte.text.truncation import TokenizedText

LENGTHS = [5, 17, 1, 23, 16, 17, 9, 40]
POOLINGS = get_args(PoolingMode)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [rng.integers(4, 64, length).astype(np.int32) for length in LENGTHS]


NAMES = ["bert", "roberta", "xlm-roberta", "gte", "gte-scaled", "modernbert", "eurobert",
         "distilbert",
         "nomic_bert", "t5", "qwen2", "qwen3", "qwen3-bidirectional", "qwen2-bidirectional",
         "qwen2-window", "mistral", "mistral-bidirectional", "llama",
         "llama-bidirectional"]  # fmt: skip


def test_no_tiny_config_is_left_out(tiny):
    assert set(NAMES) == set(tiny.CONFIGS)


@pytest.fixture(scope="module", params=NAMES)
def case(request, tiny):
    """Config, transformers' model, and ours with the same weights."""
    config = tiny.CONFIGS[request.param]
    theirs = tiny.transformers_model(config)
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    return config, theirs, build_backbone(config, state).eval()


def run_padded(tiny, model, texts, pad_id, *, side="right"):
    """The states of each text, from one padded batch."""
    ids, mask = tiny.padded(texts, pad_id=pad_id, side=side)
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return [row[kept.bool()] for row, kept in zip(states, mask, strict=True)]


def test_packed_states_and_every_pooling_equal_the_padded_forward(tiny, case, texts):
    config, theirs, ours = case
    packed = pack([TokenizedText(text) for text in texts])
    with torch.no_grad():
        expected = run_padded(tiny, theirs, texts, config.get("pad_token_id", 0))
        states = ours(packed)
    assert torch.allclose(states, torch.cat(expected), atol=1e-5, rtol=1e-5)
    for mode in POOLINGS:
        vectors = pool(states, packed, mode=mode)
        by_hand = torch.stack([tiny.pooled_by_hand(part, mode) for part in expected])
        assert torch.allclose(vectors, by_hand, atol=1e-5, rtol=1e-5), mode


@pytest.mark.parametrize("name", ["qwen3", "qwen2-window", "llama", "mistral-bidirectional"])
def test_left_padding_of_a_decoder_gives_the_same_last_token(tiny, name, texts):
    config = tiny.CONFIGS[name]
    theirs = tiny.transformers_model(config)
    ours = build_backbone(config, {n: v.clone() for n, v in theirs.state_dict().items()}).eval()
    packed = pack([TokenizedText(text) for text in texts])
    with torch.no_grad():
        vectors = pool(ours(packed), packed, mode="last_token")
        for side in ("left", "right"):
            expected = run_padded(tiny, theirs, texts, 0, side=side)
            last = torch.stack([part[-1] for part in expected])
            assert torch.allclose(vectors, last, atol=1e-5), side


def test_gradients_equal_those_of_the_padded_forward(tiny, case, texts):
    config, theirs, ours = case
    packed = pack([TokenizedText(text) for text in texts])
    expected = torch.cat(run_padded(tiny, theirs, texts, config.get("pad_token_id", 0)))
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
    wanted = dict(
        zip(
            dict(theirs.named_parameters()),
            torch.autograd.grad(
                (expected * weights).sum(), list(theirs.parameters()), allow_unused=True
            ),
            strict=True,
        )
    )
    names, parameters = zip(*ours.named_parameters(), strict=True)
    got = torch.autograd.grad((ours(packed) * weights).sum(), parameters, allow_unused=True)
    gradients = ours.to_checkpoint({n: g for n, g in zip(names, got, strict=True) if g is not None})
    assert {n for n, g in wanted.items() if g is not None} <= set(gradients)
    for name, gradient in gradients.items():
        target = wanted[name]
        scale = max(1.0, target.abs().max().item())
        assert (gradient - target).abs().max().item() < 2e-5 * scale, name


def test_a_text_does_not_see_its_neighbours(tiny, case, texts):
    _, _, ours = case
    with torch.no_grad():
        together = ours(pack([TokenizedText(text) for text in texts]))
        start = 0
        for text in texts:
            alone = ours(pack([TokenizedText(text)]))
            assert torch.allclose(together[start : start + len(text)], alone, atol=1e-5)
            start += len(text)


def test_bfloat16_points_the_same_way(tiny, case, texts):
    _, _, ours = case
    packed = pack([TokenizedText(text) for text in texts])
    with torch.no_grad():
        expected = pool(ours(packed), packed, mode="mean")
        ours.compute_dtype = torch.bfloat16
        try:
            narrow = pool(ours(packed), packed, mode="mean")
        finally:
            ours.compute_dtype = torch.float32
    assert torch.cosine_similarity(expected, narrow, dim=1).min() > 0.995


def test_recomputed_layers_give_the_same_gradients(tiny, case, texts):
    _, _, ours = case
    packed = pack([TokenizedText(text) for text in texts[:4]])
    parameters = [p for p in ours.parameters() if p.requires_grad]
    plain = torch.autograd.grad(ours(packed).sum(), parameters, allow_unused=True)
    ours.train()
    hidden_attention = ours.dropout
    ours.set_dropout(0.0, 0.0)
    ours.gradient_checkpointing = True
    try:
        again = torch.autograd.grad(ours(packed).sum(), parameters, allow_unused=True)
    finally:
        ours.gradient_checkpointing = False
        ours.set_dropout(*hidden_attention)
        ours.eval()
    for a, b in zip(plain, again, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-4, rtol=1e-4)


def test_dropout_acts_in_training_and_can_be_set(tiny, case, texts):
    _, _, ours = case
    packed = pack([TokenizedText(text) for text in texts[:3]])
    before = ours.dropout
    with torch.no_grad():
        plain = ours(packed)
        ours.train()
        try:
            for hidden, attention, acts in ((0.0, 0.0, False), (0.0, 0.5, True), (0.5, 0.0, True)):
                ours.set_dropout(hidden, attention)
                torch.manual_seed(0)
                changed = not torch.allclose(ours(packed), plain, atol=1e-5)
                has_hidden = any(isinstance(m, torch.nn.Dropout) for m in ours.modules())
                has_hidden = has_hidden or not hasattr(ours, "model")
                if hidden and not has_hidden:
                    continue  # decoders have no dropout of hidden states
                assert changed == acts, (hidden, attention)
        finally:
            ours.set_dropout(*before)
            ours.eval()
