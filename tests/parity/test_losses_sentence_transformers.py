"""Our losses give sentence-transformers' values and gradients where both have them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from opengte.losses.contrastive import improved_contrastive_loss, info_nce_loss
from opengte.losses.cosent import angle_loss, cosent_loss
from opengte.losses.distillation import kl_distillation_loss, margin_mse_loss
from opengte.losses.form import improved_form
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.tiled import tiled_contrastive_loss

st_losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
pairwise_cos_sim = pytest.importorskip("sentence_transformers.util").pairwise_cos_sim

FOUR = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def embeddings(num_columns: int, size: int = 9) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (size, 16)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(num_columns)
    ]


def assert_same(ours: Tensor, theirs: Tensor, columns: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    mine = torch.autograd.grad(ours, columns)
    other = torch.autograd.grad(theirs, columns, retain_graph=True)
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)


def hard_negatives(columns: list[Tensor]) -> dict[str, Tensor | None]:
    if len(columns) == 2:
        return {}
    owners = torch.arange(len(columns[0])).repeat(len(columns) - 2)
    return {"negatives": torch.cat(columns[2:]), "negative_owners": owners}


@pytest.mark.parametrize("temperature", [0.01, 0.05])
@pytest.mark.parametrize("num_columns", [2, 3, 4])
@pytest.mark.parametrize("directions", [FOUR, FOUR[:2], FOUR[:1], (FOUR[0], FOUR[3])])
def test_joint_partition(directions, num_columns, temperature):
    columns = embeddings(num_columns)
    theirs = st_losses.MultipleNegativesRankingLoss(
        nn.Identity(), scale=1 / temperature, directions=directions, partition_mode="joint"
    ).compute_loss_from_embeddings(columns, torch.empty(0))
    blocks = {
        "query_query": FOUR[1] in directions,
        "document_query": FOUR[2] in directions,
        "document_document": FOUR[3] in directions,
    }
    ours = improved_contrastive_loss(
        *columns[:2], temperature=temperature, **blocks, **hard_negatives(columns)
    )
    assert_same(ours, theirs, columns)
    tiled = tiled_contrastive_loss(
        *columns[:2],
        temperature=temperature,
        form=improved_form(**blocks),
        tile_size=4,
        **hard_negatives(columns),
    )
    assert_same(tiled, theirs, columns)


@pytest.mark.parametrize("num_columns", [2, 3])
def test_symmetric_mean(num_columns):
    columns = embeddings(num_columns)
    theirs = st_losses.MultipleNegativesRankingLoss(
        nn.Identity(), scale=20, directions=(FOUR[0], FOUR[2]), partition_mode="per_direction"
    ).compute_loss_from_embeddings(columns, torch.empty(0))
    ours = info_nce_loss(
        *columns[:2], temperature=0.05, direction="symmetric_mean", **hard_negatives(columns)
    )
    assert_same(ours, theirs, columns)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(cosent_loss, "CoSENTLoss"), (angle_loss, "AnglELoss")]
)
def test_graded_pairs(ours, theirs):
    columns = embeddings(2)
    scores = torch.tensor([0.1, 0.5, 0.5, 0.9, 0.0, 1.0, 0.3, 0.3, 0.7])
    expected = getattr(st_losses, theirs)(nn.Identity(), scale=20.0).compute_loss_from_embeddings(
        columns, scores
    )
    found = ours(EmbeddedBatch(*columns, scores=scores), temperature=0.05)
    assert_same(found, expected, columns)


def taught(num_negatives: int) -> tuple[list[Tensor], Tensor, EmbeddedBatch]:
    columns = embeddings(2 + num_negatives)
    generator = torch.Generator().manual_seed(1)
    teacher = torch.randn(len(columns[0]), 1 + num_negatives, generator=generator).double()
    batch = EmbeddedBatch(
        *columns[:2],
        **hard_negatives(columns),
        teacher_scores=teacher[:, 0],
        negative_teacher_scores=teacher[:, 1:].T.flatten(),
    )
    return columns, teacher, batch


@pytest.mark.parametrize("num_negatives", [1, 3])
def test_margin_mse(num_negatives):
    columns, teacher, batch = taught(num_negatives)
    loss = st_losses.MarginMSELoss(nn.Identity())
    expected = loss.compute_loss_from_embeddings(columns, teacher)
    assert_same(margin_mse_loss(batch), expected, columns)


@pytest.mark.parametrize("num_negatives", [1, 3])
def test_kl_distillation(num_negatives):
    columns, teacher, batch = taught(num_negatives)
    loss = st_losses.DistillKLDivLoss(
        nn.Identity(), similarity_fct=pairwise_cos_sim, student_temperature=0.05
    )
    expected = loss.compute_loss_from_embeddings(columns, teacher)
    # They multiply by the squared temperature (Hinton et al. 2015), E5's equation does not.
    assert_same(0.05**2 * kl_distillation_loss(batch, temperature=0.05), expected, columns)
