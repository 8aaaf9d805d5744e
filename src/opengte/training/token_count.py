"""A budget of tokens -> a number of steps, from a sample of the batches themselves."""

from __future__ import annotations

from opengte.contracts import BatchSource
from opengte.records import Batch
from opengte.text.tokenizer import Tokenizer
from opengte.training.batching import tokenize_batch
from opengte.training.config import TrainingConfig

SAMPLED_STEPS = 64
SAMPLED_ROWS = 64


def tokens_per_step(
    batches: BatchSource,
    tokenizer: Tokenizer,
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
        tokenizer: of the encoder.
        config: for the longest lengths.
        num_steps: batches looked at.
        num_rows: rows looked at in each.
    """
    total = 0.0
    for step in range(num_steps):
        batch = batches.batch(step)
        part = _first_rows(batch, num_rows)
        texts = tokenize_batch(
            part,
            tokenizer,
            query_max_tokens=config.query_max_tokens,
            document_max_tokens=config.document_max_tokens,
        )
        total += sum(len(text) for text in texts) * len(batch) / len(part)
    return total / num_steps


def steps_for_tokens(
    batches: BatchSource, tokenizer: Tokenizer, config: TrainingConfig, *, max_tokens: int
) -> int:
    """How many steps read about ``max_tokens`` tokens; one at least."""
    return max(1, round(max_tokens / tokens_per_step(batches, tokenizer, config)))


def _first_rows(batch: Batch, num_rows: int) -> Batch:
    """About ``num_rows`` rows: the first of as many equal parts as there must be."""
    return batch.slice(0, max(1, len(batch) // num_rows))
