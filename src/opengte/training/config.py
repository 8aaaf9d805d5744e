"""The settings of one training run: plain values with units, contradictions refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from opengte.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Strategy = Literal["auto", "single", "ddp", "fsdp", "deepspeed"]
Frozen = Literal["positions", "words", "backbone"]
Tracker = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021) instead of training whole matrices.

    They are added into the weights when training ends, so that the model stays an ordinary one.

    Attributes:
        rank: inner size of an adapter (NV-Embed, E5-mistral: 16).
        alpha: the adapter's output is scaled by alpha / rank (NV-Embed, E5-mistral: 32).
        dropout: on the adapter's input, 0 to 1 (NV-Embed: 0.1).
        modules: last parts of the names of linear layers that get one; ``()`` = every linear
            layer of the backbone.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        _check("rank", self.rank, self.rank >= 1, ">= 1")
        _check("alpha", self.alpha, self.alpha > 0, "> 0")
        _check("dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How an encoder is trained; what it learns from and towards is given elsewhere.

    Attributes:
        num_steps: optimiser steps of the whole run; None = worked out from
            ``max_training_tokens``. (GTE: 50,000 of 16,384 pairs.)
        max_training_tokens: a budget in tokens actually read, special tokens included; turned
            into steps once, from a sample of the batches, which depends on nothing but them.
        learning_rate: peak, per step (GTE: 3e-4 small, 2e-4 base, 5e-5 large; fine-tuning a
            tenth of it).
        warmup: share of the steps in which the rate rises linearly from 0 (GTE: 0.05).
        schedule: what follows the warm-up (GTE: linear).
        final_learning_rate: where linear and cosine end, as a share of the peak.
        weight_decay: decoupled (AdamW), per step; never on norms and biases (E5: 0.01).
        adam_betas, adam_epsilon: AdamW's (mGTE: 0.9, 0.999, 1e-7).
        max_grad_norm: the gradient's 2-norm is cut to this; None = never (mGTE: 1.0).
        micro_batch_tokens: texts are encoded in length-sorted groups of at most so many
            tokens; a matter of speed and memory, not of the result.
        precision: of the products; weights and moments stay float32. ``auto`` = bfloat16
            where the processor multiplies it in hardware, else float32. float16 scales the
            loss.
        gradient_cache: recompute activations instead of keeping them (Gao et al. 2021):
            ``auto`` = only for those micro-batches whose activations do not fit.
        activation_memory_gib: what kept activations may take, GiB; None = 60 % of what is free
            when the run starts.
        gradient_checkpointing: keep only every layer's input; slower, less memory.
        query_max_tokens, document_max_tokens: longest inputs, special tokens included; None =
            what the encoder reads (GTE: 128 in pre-training, 512 in fine-tuning).
        dropout: of hidden states, 0 to 1; None = what the model's folder says.
        attention_dropout: of attention probabilities; None = what the model's folder says.
        frozen: parts that stay as they are: learned ``positions`` (E5: so that training on 128
            tokens does not spoil reading 512), ``words``, or the whole ``backbone``.
        frozen_layers: so many layers from the input on stay as they are.
        lora: adapters instead of full training; None = full training.
        seed: of dropout; the batches bring their own.
        checkpoint_every: steps between checkpoints.
        keep_last: checkpoints that are kept, beside the best.
        best_metric: a number that a callback returns; the checkpoint with the best is kept.
        best_mode: whether larger or smaller is better.
        asynchronous_checkpoints: write while training goes on; costs one copy in memory.
        max_loss_growth: the run stops as exploded when a source's loss, averaged over 16 of
            its steps, exceeds this many times its first average by more than 2 nats.
        strategy: how ranks share the work; ``auto`` = single for one, ddp for several.
        deepspeed_stage: ZeRO stage, with ``strategy: deepspeed``.
        trackers: services that get every number beside ``metrics.jsonl``.
    """

    num_steps: int | None = None
    max_training_tokens: int | None = None
    learning_rate: float = 5e-5
    warmup: float = 0.05
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    final_learning_rate: float = 0.0
    weight_decay: float = 0.01
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-8
    max_grad_norm: float | None = 1.0
    micro_batch_tokens: int = 8192
    precision: Precision = "auto"
    gradient_cache: Literal["auto", "always", "never"] = "auto"
    activation_memory_gib: float | None = None
    gradient_checkpointing: bool = False
    query_max_tokens: int | None = None
    document_max_tokens: int | None = None
    dropout: float | None = None
    attention_dropout: float | None = None
    frozen: tuple[Frozen, ...] = ()
    frozen_layers: int = 0
    lora: LoraConfig | None = None
    seed: int = 0
    checkpoint_every: int = 200
    keep_last: int = 2
    best_metric: str | None = None
    best_mode: Literal["max", "min"] = "max"
    asynchronous_checkpoints: bool = True
    max_loss_growth: float = 5.0
    strategy: Strategy = "auto"
    deepspeed_stage: Literal[1, 2, 3] = 1
    trackers: tuple[Tracker, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that cannot be used, and pairs of them that contradict each other."""
        for name in POSITIVE_COUNTS:
            value = getattr(self, name)
            if value is not None:
                _check(name, value, value >= 1, ">= 1")
        for name in SHARES:
            value = getattr(self, name)
            if value is not None:
                _check(name, value, 0 <= value < 1, "in [0, 1)")
        for name in POSITIVE_NUMBERS:
            value = getattr(self, name)
            if value is not None:
                _check(name, value, 0 < value < math.inf, "> 0")
        _check("weight_decay", self.weight_decay, self.weight_decay >= 0, ">= 0")
        betas = self.adam_betas
        _check("adam_betas", betas, all(0 <= beta < 1 for beta in betas), "in [0, 1)")
        if self.num_steps is not None and self.max_training_tokens is not None:
            raise ConfigError(
                "num_steps and max_training_tokens both say how long to train; give one of them"
            )
        _check("frozen_layers", self.frozen_layers, self.frozen_layers >= 0, ">= 0")
        if self.lora is not None and (self.frozen or self.frozen_layers):
            raise ConfigError("lora freezes the backbone itself; leave frozen out beside it")


POSITIVE_COUNTS = (
    "num_steps",
    "max_training_tokens",
    "micro_batch_tokens",
    "query_max_tokens",
    "document_max_tokens",
    "checkpoint_every",
    "keep_last",
)
POSITIVE_NUMBERS = (
    "learning_rate",
    "adam_epsilon",
    "max_grad_norm",
    "activation_memory_gib",
    "max_loss_growth",
)
SHARES = ("warmup", "final_learning_rate", "dropout", "attention_dropout")

CHANGEABLE = frozenset(
    {
        "checkpoint_every",
        "keep_last",
        "asynchronous_checkpoints",
        "strategy",
        "deepspeed_stage",
        "trackers",
        "max_loss_growth",
    }
)
"""Fields that may differ when a run goes on: they do not change what is learned."""


def learning_settings(config: TrainingConfig) -> dict[str, object]:
    """The fields that decide what is learned: a run goes on only with equal ones."""
    names = [field.name for field in fields(config) if field.name not in CHANGEABLE]
    return {name: getattr(config, name) for name in names}


def _check(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {expected}, got {value}")
