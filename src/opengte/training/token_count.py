"""A budget of tokens -> a number of steps, from a sample of the batches themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opengte.contracts import BatchSource
from opengte.records import Batch
from opengte.training.batching import Reader, tokenize_batch
from opengte.training.config import TrainingConfig

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

SAMPLED_STEPS = 64
SAMPLED_ROWS = 64


def tokens_per_step(
    batches: BatchSource,
    encoder: Encoder,
    config: TrainingConfig,
    *,
    num_steps: int = SAMPLED_STEPS,
    num_rows: int = SAMPLED_ROWS,
) -> float:
    """Tokens that one step reads, special tokens included, averaged over the first steps.

    Depends on the batches, the tokenizer and the lengths alone: the same on every machine and
    after every interruption.

    Args:
        batches: whose first ``num_steps`` batches are looked at.
        encoder: whose tokenizer and lengths count.
        config: for the longest lengths.
        num_steps: batches looked at.
        num_rows: rows looked at in each.
    """
    reader = Reader.of(encoder, config)
    total = 0.0
    for step in range(num_steps):
        batch = batches.batch(step)
        part = _first_rows(batch, num_rows)
        total += sum(len(text) for text in tokenize_batch(part, reader)) * len(batch) / len(part)
    return total / num_steps


def steps_for_tokens(
    batches: BatchSource, encoder: Encoder, config: TrainingConfig, *, max_tokens: int
) -> int:
    """How many steps read about ``max_tokens`` tokens; one at least."""
    return max(1, round(max_tokens / tokens_per_step(batches, encoder, config)))


def _first_rows(batch: Batch, num_rows: int) -> Batch:
    """About ``num_rows`` rows: the first of as many equal parts as there must be."""
    return batch.slice(0, max(1, len(batch) // num_rows))
