"""The gradient of a step does not depend on how the step was cut to pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from opengte.errors import ConfigError, DataError
from opengte.losses.config import ImprovedContrastiveConfig, make_loss
from opengte.losses.inputs import EmbeddedBatch
from opengte.models.encoder import Encoder
from opengte.records import Batch
from opengte.training.activation_memory import measure_activations
from opengte.training.batching import Reader, label_documents, lay_out, tokenize_batch
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.parallel import SingleProcess
from opengte.training.step import StepOutcome, TrainingStep

NewEncoder = Callable[..., Encoder]
LOSS = make_loss(ImprovedContrastiveConfig(temperature=0.05))


def run_step(
    encoder: Encoder, batches: object, step: int, *, budget: int = 2**40, **settings: object
) -> tuple[StepOutcome, dict[str, Tensor]]:
    config = TrainingConfig(**settings)  # type: ignore[arg-type]
    world = World(0, 1, torch.device("cpu"))
    parallelism = SingleProcess(world)
    parallelism.wrap(encoder)
    one = TrainingStep(
        encoder,
        LOSS,
        config,
        world=world,
        reader=Reader.of(encoder, config),
        parallelism=parallelism,
        activations=measure_activations(encoder, max_tokens=48),
        activation_budget=budget,
    )
    encoder.train()
    encoder.zero_grad()
    outcome = one.run(one.prepare(batches, step))  # type: ignore[arg-type]
    return outcome, {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}


def plain_step(encoder: Encoder, batch: Batch) -> tuple[float, dict[str, Tensor]]:
    """Everything at once, text by text in its order: no micro-batches, no leaf, no cache."""
    encoder.train()
    encoder.zero_grad()
    negatives = [text for texts in batch.negatives for text in texts]
    texts = [*batch.queries, *batch.positives, *negatives]
    parts = encoder(encoder.pack(encoder.tokenize(texts))).split(
        [len(batch), len(batch), len(negatives)]
    )
    owners = [row for row, texts in enumerate(batch.negatives) for _ in texts]
    loss = LOSS(
        EmbeddedBatch(
            queries=parts[0],
            documents=parts[1],
            negatives=parts[2] if negatives else None,
            negative_owners=torch.tensor(owners) if negatives else None,
        )
    )
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    return float(loss.detach()), gradients


def relative_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    flat_a = torch.cat([a[name].flatten().double() for name in a])
    flat_b = torch.cat([b[name].flatten().double() for name in a])
    return float((flat_a - flat_b).norm() / flat_b.norm())


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("micro_batch_tokens", [1, 30, 100, 10_000])
def test_micro_batched_equals_whole(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    step: int,
    micro_batch_tokens: int,
) -> None:
    encoder, batches = new_encoder(), new_batches()
    outcome, gradients = run_step(encoder, batches, step, micro_batch_tokens=micro_batch_tokens)
    loss, expected = plain_step(encoder, batches.batch(step))  # type: ignore[attr-defined]
    assert outcome.loss == pytest.approx(loss, rel=1e-6)
    assert relative_difference(gradients, expected) < 1e-5


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_cached_equals_plain_bit_for_bit(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    dropout: float,
    compute_dtype: str,
) -> None:
    encoder, batches = new_encoder(dropout=dropout, compute_dtype=compute_dtype), new_batches()
    common = {"micro_batch_tokens": 60}
    plain, expected = run_step(encoder, batches, 1, gradient_cache="never", **common)
    cached, gradients = run_step(encoder, batches, 1, gradient_cache="always", **common)
    assert plain.num_recomputed == 0
    assert cached.num_recomputed > 3
    assert cached.loss == plain.loss
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


def test_keeping_some_activations_equals_keeping_all(
    new_encoder: NewEncoder, new_batches: Callable[..., object]
) -> None:
    encoder, batches = new_encoder(dropout=0.1), new_batches()
    common = {"micro_batch_tokens": 60}
    _, expected = run_step(encoder, batches, 1, gradient_cache="never", **common)
    seen = set()
    for budget in (0, 2**20, 3 * 2**19, 2**40):
        outcome, gradients = run_step(encoder, batches, 1, budget=budget, **common)
        seen.add(outcome.num_recomputed)
        assert all(torch.equal(gradients[name], expected[name]) for name in expected)
    assert 0 in seen
    assert len(seen) >= 3


def test_dropout_differs_between_steps_micro_batches_and_seeds(
    new_encoder: NewEncoder, new_batches: Callable[..., object]
) -> None:
    encoder, batches = new_encoder(dropout=0.3), new_batches(num_negatives=0)
    losses = [run_step(encoder, batches, 0, seed=seed)[0].loss for seed in (0, 1)]
    assert losses[0] != losses[1]
    assert losses[0] == run_step(encoder, batches, 0, seed=0)[0].loss


def test_a_step_leaves_the_caller_s_random_numbers_alone(
    new_encoder: NewEncoder, new_batches: Callable[..., object]
) -> None:
    encoder = new_encoder(dropout=0.1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run_step(encoder, new_batches(), 0)
    assert torch.equal(torch.rand(3), expected)


def test_gradient_checkpointing_changes_nothing(
    new_encoder: NewEncoder, new_batches: Callable[..., object]
) -> None:
    encoder, batches = new_encoder(dropout=0.1), new_batches()
    _, expected = run_step(encoder, batches, 1)
    encoder.backbone.gradient_checkpointing = True
    _, gradients = run_step(encoder, batches, 1)
    assert relative_difference(gradients, expected) < 1e-6


def test_rows_that_are_not_finite_are_found(
    new_encoder: NewEncoder, new_batches: Callable[..., object]
) -> None:
    encoder, batches = new_encoder(), new_batches()
    batch = batches.batch(1)  # type: ignore[attr-defined]
    poisoned = encoder.tokenizer.encode(["w199"], max_tokens=8)[0].ids[1]
    with torch.no_grad():
        encoder.backbone.embeddings.word.weight[int(poisoned)] = float("nan")
    rows = [
        row
        for row in range(len(batch))
        if any(
            "w199" in text.split()
            for text in (batch.queries[row], batch.positives[row], *batch.negatives[row])
        )
    ]
    if not rows:
        batch.positives[4] = "w1 w199"
        rows = [4]

    class Once:
        def batch(self, step: int) -> Batch:
            return batch  # type: ignore[no-any-return]

    outcome, gradients = run_step(encoder, Once(), 1)
    assert np.isnan(outcome.loss)
    assert outcome.bad_rows == rows
    assert not gradients


def test_a_hard_negative_that_answers_another_row_is_no_negative_of_it(
    new_batches: Callable[..., object],
) -> None:
    batch = new_batches(size=3, num_negatives=0).batch(0)  # type: ignore[attr-defined]
    batch = replace(batch, negatives=((batch.positives[1], "x"), (), ("x",)))
    documents, negatives = label_documents(batch)
    assert documents is not None
    assert negatives is not None
    assert documents.tolist() == [0, 1, 2]
    assert negatives.tolist() == [1, 3, 3]


def test_labels_that_the_batch_brings_are_kept(new_batches: Callable[..., object]) -> None:
    batch = new_batches(size=3, num_negatives=0).batch(0)  # type: ignore[attr-defined]
    batch = replace(
        batch, positive_labels=np.array([7, 7, 2]), negatives=((), (batch.positives[2],), ("y",))
    )
    documents, negatives = label_documents(batch)
    assert documents is not None
    assert negatives is not None
    assert documents.tolist() == [7, 7, 2]
    assert negatives.tolist() == [2, 8]


def test_distinct_texts_need_no_labels(new_batches: Callable[..., object]) -> None:
    batch = new_batches(size=2, num_negatives=0).batch(0)  # type: ignore[attr-defined]
    batch = replace(batch, positives=["a", "b"], negatives=(("c",), ("d", "e")))
    assert label_documents(batch) == (None, None)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_layout_puts_gathered_texts_in_order(
    new_batches: Callable[..., object], world_size: int
) -> None:
    batch = new_batches(size=11).batch(1)  # type: ignore[attr-defined]
    gathered: list[str] = []
    for rank in range(world_size):
        part = batch.slice(rank, world_size)
        gathered += [*part.queries, *part.positives, *(t for n in part.negatives for t in n)]
    layouts = [lay_out(batch, rank, world_size) for rank in range(world_size)]
    ordered = [gathered[i] for i in layouts[0].gathered_order()]
    negatives = [text for texts in batch.negatives for text in texts]
    assert ordered == [*batch.queries, *batch.positives, *negatives]
    assert [row for layout in layouts for row in layout.rows] == list(range(11))
    assert layouts[0].num_texts == tuple(
        2 * len(part.queries) + sum(map(len, part.negatives))
        for part in (batch.slice(rank, world_size) for rank in range(world_size))
    )


def test_prompts_are_told_to_the_tokenizer(
    new_encoder: NewEncoder, new_batches: Callable[..., object]
) -> None:
    batch = new_batches(size=2, num_negatives=0).batch(0)  # type: ignore[attr-defined]
    batch = replace(
        batch,
        queries=["w1 w2", "w3 w4"],
        positives=["w5 w6", "w7"],
        negatives=((), ("w5 w8 w9",)),
        query_prompt_characters=3,
        document_prompt_characters=[3, 6],
    )
    texts = tokenize_batch(batch, Reader.of(new_encoder(), TrainingConfig()))
    assert [text.num_prompt_tokens for text in texts] == [2, 2, 2, 2, 3]


def test_longer_texts_than_the_model_reads_are_refused(new_encoder: NewEncoder) -> None:
    with pytest.raises(ConfigError, match="document_max_tokens is 64, but the model reads 48"):
        Reader.of(new_encoder(), TrainingConfig(document_max_tokens=64))


def test_fewer_pairs_than_ranks_are_refused(
    new_encoder: NewEncoder, new_batches: Callable[..., object]
) -> None:
    with pytest.raises(DataError, match="the batch of step 0 has 0 pairs for 1 rank; every rank"):
        run_step(new_encoder(), new_batches(size=0), 0)


def test_columns_of_unequal_length_are_refused(
    new_encoder: NewEncoder, new_batches: Callable[..., object]
) -> None:
    batch = replace(new_batches().batch(0), positives=["w1"])  # type: ignore[attr-defined]

    class Broken:
        def batch(self, step: int) -> Batch:
            return batch

    with pytest.raises(DataError, match="step 0 has 12 queries but 1 positives"):
        run_step(new_encoder(), Broken(), 0)
