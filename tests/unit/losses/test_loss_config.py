"""Configs make the losses they name, alone, at several sizes and added up."""

from __future__ import annotations

import math
import typing
from dataclasses import replace

import pytest
import torch
from contrastive_reference import slow_contrastive_loss
from torch import nn

from opengte.errors import ConfigError
from opengte.losses import contrastive_config
from opengte.losses.config import (
    AlignmentMSEConfig,
    AnglEConfig,
    CircleConfig,
    ConanBalanceConfig,
    CoSENTConfig,
    EmbeddingMSEConfig,
    ImprovedContrastiveConfig,
    InfoNCEConfig,
    InstructorConfig,
    KLDistillationConfig,
    LossConfig,
    MarginMSEConfig,
    MatryoshkaConfig,
    Qwen3ContrastiveConfig,
    UniformityConfig,
    WeightedSumConfig,
    make_loss,
)
from opengte.losses.contrastive import contrastive_loss, improved_contrastive_loss
from opengte.losses.form import instructor_form, qwen3_form
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.tiled import tiled_loss


@pytest.fixture
def batch() -> EmbeddedBatch:
    generator = torch.Generator().manual_seed(0)
    q, d, n = (torch.randn(6, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    owners = torch.tensor([0, 0, 1, 3, 4, 5])
    return EmbeddedBatch(q, d, n, owners, scores=torch.rand(6, generator=generator))


@pytest.mark.parametrize(
    "config",
    [
        ImprovedContrastiveConfig(query_document=False),
        InfoNCEConfig(direction="symmetric_mean", similarity="squared_distance"),
        Qwen3ContrastiveConfig(),
        Qwen3ContrastiveConfig(query_document=False, margin_on_documents=False),
        Qwen3ContrastiveConfig(hard_negatives="own", margin=None),
        InstructorConfig(),
        InstructorConfig(variant="code"),
    ],
)
@pytest.mark.parametrize("tiled", [None, False, True])
def test_contrastive_configs_equal_the_slow_definition(batch, config, tiled):
    config = replace(config, temperature=0.1, tiled=tiled)
    expected = slow_contrastive_loss(batch, config.form, temperature=0.1)
    assert math.isclose(make_loss(config)(batch).item(), expected, rel_tol=1e-9)


def test_qwen3_formula_as_printed(batch):
    """Equation 1 with its missing term, written out once more."""
    tau, margin = 0.1, 0.1
    texts = (batch.queries, batch.documents, batch.negatives)
    q, d, n = (torch.nn.functional.normalize(x, dim=1) for x in texts)
    total = 0.0
    for i in range(6):
        s = float(q[i] @ d[i])
        z = math.exp(s / tau)
        for k in range(6):  # hard negatives, of this row and of others: d_j ranges over both
            if float(q[i] @ n[k]) <= s + margin:
                z += math.exp(float(q[i] @ n[k]) / tau)
                if batch.negative_owners[k] != i:
                    z += math.exp(float(d[i] @ n[k]) / tau)
        for j in range(6):
            if j == i:
                continue
            if float(q[i] @ q[j]) <= s + margin:
                z += math.exp(float(q[i] @ q[j]) / tau)
            if float(q[i] @ d[j]) <= s + margin:
                z += math.exp(float(q[i] @ d[j]) / tau) + math.exp(float(d[i] @ d[j]) / tau)
        total -= math.log(math.exp(s / tau) / z)
    found = contrastive_loss(batch, qwen3_form(), temperature=tau)
    assert math.isclose(found.item(), total / 6, rel_tol=1e-9)


def test_instructor_code_sees_no_other_document(batch):
    moved = replace(batch, documents=batch.documents.clone(), rows=range(1))
    moved.documents[1:] = torch.randn(5, 8, dtype=torch.float64)
    form = instructor_form(variant="code")
    same = contrastive_loss(replace(batch, rows=range(1)), form, temperature=0.1)
    assert contrastive_loss(moved, form, temperature=0.1) == same


def test_many_rows_are_tiled_and_few_are_not(monkeypatch):
    calls: list[int] = []

    def watched(batch, *args, **settings):
        calls.append(len(batch))
        return tiled_loss(batch, *args, **settings)

    monkeypatch.setattr(
        contrastive_config,
        "tiled_loss",
        watched,
    )
    small, large = torch.randn(40, 8), torch.randn(300, 8)
    loss = make_loss(ImprovedContrastiveConfig())
    for x in (small, large):
        torch.testing.assert_close(
            loss(EmbeddedBatch(x, x.roll(1, 1))),
            improved_contrastive_loss(x, x.roll(1, 1), temperature=0.01),
        )
    assert calls == [300]


def test_learned_temperature_gets_the_gradient_of_the_scale(batch):
    config = InfoNCEConfig(temperature=0.05, direction="symmetric_mean", learn_temperature=True)
    loss = make_loss(config)
    assert isinstance(loss, nn.Module)
    (parameter,) = loss.parameters()
    assert math.isclose(loss.temperature.item(), 0.05, rel_tol=1e-6)
    loss(batch).backward()
    step = 1e-6
    fixed = [
        contrastive_loss(batch, config.form, temperature=0.05 * math.exp(-delta)).item()
        for delta in (step, -step)
    ]
    assert math.isclose(parameter.grad.item(), (fixed[0] - fixed[1]) / (2 * step), rel_tol=1e-4)


def test_learned_temperature_stays_above_one_hundredth(batch):
    loss = make_loss(ImprovedContrastiveConfig(temperature=0.001, learn_temperature=True))
    loss(batch)
    assert math.isclose(loss.temperature.item(), 0.01, rel_tol=1e-5)


def test_tiles_learn_the_same_temperature(batch):
    gradients = []
    for tiled in (False, True):
        loss = make_loss(ImprovedContrastiveConfig(learn_temperature=True, tiled=tiled))
        loss(batch).backward()
        gradients.append(loss.log_scale.grad)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tiled", [False, True])
def test_matryoshka_is_the_weighted_sum_over_cut_embeddings(batch, tiled):
    inner = Qwen3ContrastiveConfig(temperature=0.1, tiled=tiled)
    loss = make_loss(MatryoshkaConfig(loss=inner, dimensions=(2, 5, 8), weights=(1.0, 0.5, 2.0)))
    expected = 0.0
    for size, weight in ((2, 1.0), (5, 0.5), (8, 2.0)):
        cut = replace(
            batch,
            queries=batch.queries[:, :size],
            documents=batch.documents[:, :size],
            negatives=batch.negatives[:, :size],
        )
        expected += weight * slow_contrastive_loss(cut, inner.form, temperature=0.1)
    assert math.isclose(loss(batch).item(), expected, rel_tol=1e-9)
    leaf = batch.queries.clone().requires_grad_()
    loss(replace(batch, queries=leaf)).backward()
    assert leaf.grad.abs().sum(0).count_nonzero() == 8


def test_weighted_sum_learns_what_its_parts_learn(batch):
    parts = (InfoNCEConfig(learn_temperature=True), CoSENTConfig())
    loss = make_loss(WeightedSumConfig(losses=parts, weights=(1.0, 0.2)))
    assert isinstance(loss, nn.Module)
    assert len(list(loss.parameters())) == 1
    single = [make_loss(part)(batch) for part in parts]
    torch.testing.assert_close(loss(batch), single[0] + 0.2 * single[1])


def test_loss_without_parameters_is_a_plain_function(batch):
    for config in (
        ImprovedContrastiveConfig(),
        MatryoshkaConfig(loss=InfoNCEConfig(), dimensions=(4,)),
        WeightedSumConfig(losses=(InfoNCEConfig(),)),
    ):
        loss = make_loss(config)
        assert not isinstance(loss, nn.Module)
        assert loss(batch).ndim == 0


def test_nested_matryoshka_of_a_weighted_sum(batch):
    config = MatryoshkaConfig(
        loss=WeightedSumConfig(losses=(InfoNCEConfig(), CoSENTConfig())), dimensions=(4, 8)
    )
    whole = make_loss(config)(batch)
    parts = [
        make_loss(part)(batch.truncated(size))
        for size in (4, 8)
        for part in (InfoNCEConfig(), CoSENTConfig())
    ]
    torch.testing.assert_close(whole, torch.stack(parts).sum())


def test_contradictions_are_refused(batch):
    with pytest.raises(ConfigError, match="weights must be 2, one for each of dimensions, got 1"):
        MatryoshkaConfig(loss=InfoNCEConfig(), dimensions=(2, 4), weights=(1.0,))
    with pytest.raises(ConfigError, match="dimensions must be one or more sizes > 0"):
        MatryoshkaConfig(loss=InfoNCEConfig(), dimensions=())
    with pytest.raises(ConfigError, match="losses must name at least one loss"):
        WeightedSumConfig(losses=())
    with pytest.raises(ConfigError, match="weights must be 1, one for each of losses, got 2"):
        WeightedSumConfig(losses=(InfoNCEConfig(),), weights=(1.0, 2.0))
    with pytest.raises(ConfigError, match="Matryoshka dimensions must be <= 8"):
        make_loss(MatryoshkaConfig(loss=InfoNCEConfig(), dimensions=(9,)))(batch)
    with pytest.raises(ConfigError, match="products bfloat16 need similarity cosine"):
        InfoNCEConfig(similarity="squared_distance", products="bfloat16")
    for config in (InfoNCEConfig, Qwen3ContrastiveConfig, InstructorConfig):
        with pytest.raises(ConfigError, match="temperature must be > 0, got 0"):
            config(temperature=0.0)


def test_bfloat16_products_reach_the_tiles():
    q, d = torch.randn(64, 32), torch.randn(64, 32)
    batch = EmbeddedBatch(q, d)
    config = ImprovedContrastiveConfig(temperature=0.05, products="bfloat16", tiled=True)
    loss = make_loss(config)(batch)
    expected = tiled_loss(batch, config.form, temperature=0.05, products="bfloat16")
    assert loss == expected
    assert loss != tiled_loss(batch, config.form, temperature=0.05)


EVERY = [
    ImprovedContrastiveConfig(),
    ImprovedContrastiveConfig(tiled=True),
    InfoNCEConfig(),
    Qwen3ContrastiveConfig(),
    InstructorConfig(),
    CoSENTConfig(),
    AnglEConfig(),
    CircleConfig(),
    ConanBalanceConfig(),
    UniformityConfig(),
    KLDistillationConfig(),
    MarginMSEConfig(),
    EmbeddingMSEConfig(),
    MatryoshkaConfig(loss=InfoNCEConfig(), dimensions=(4,)),
    WeightedSumConfig(losses=(AlignmentMSEConfig(), UniformityConfig())),
]


def test_every_kind_is_listed_here():
    kinds = {config.kind for config in EVERY} | {"alignment_mse"}
    assert kinds == {member.kind for member in typing.get_args(LossConfig)}


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.kind)
def test_rank_without_rows_adds_nothing_and_can_still_go_backward(batch, config):
    leaf = batch.queries.clone().requires_grad_()
    idle = replace(
        batch,
        queries=leaf,
        documents=batch.documents * leaf.mean(),
        rows=range(2, 2),
        teacher_scores=torch.ones(6),
        negative_teacher_scores=torch.ones(6),
        teacher_queries=batch.queries,
    )
    loss = make_loss(config)(idle)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(leaf.grad, torch.zeros_like(leaf))


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.kind)
def test_one_row_alone_has_finite_gradients(batch, config):
    leaf = batch.queries[:1].clone().requires_grad_()
    one = EmbeddedBatch(
        leaf,
        batch.documents[:1],
        batch.negatives[:1],
        torch.tensor([0]),
        scores=torch.tensor([0.5]),
        teacher_scores=torch.ones(1),
        negative_teacher_scores=torch.zeros(1),
        teacher_queries=batch.queries[:1],
    )
    loss = make_loss(config)(one)
    loss.backward()
    assert loss.isfinite()
    assert leaf.grad.isfinite().all()
