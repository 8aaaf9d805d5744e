"""Plans: from what a recipe says alone, equal on every machine, and right where one can count."""

from __future__ import annotations

from typing import Any

import pytest

from opengte.pipeline.plan import make_plan
from opengte.pipeline.recipe import Recipe

BERT = {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30522,
        "max_position_embeddings": 512, "type_vocab_size": 2}  # fmt: skip
BERT_PARAMETERS = 108_891_648  # bert-base without its pooler
GIB = 2**30


def plan(*, hardware: dict[str, Any] | None = None, **stage: Any):
    settings = {
        "kind": "contrastive",
        "model": "base",
        "sources": {"a": {"num_pairs": 6000}, "b": {"num_pairs": 9000, "max_pairs": 4000}},
        **stage,
    }
    recipe = {
        "name": "planned",
        "hardware": hardware or {},
        "backbone": {"model": "nowhere/bert", "max_tokens": 512, "shape": BERT},
        "stages": {"train": settings},
    }
    made = make_plan(Recipe.model_validate(recipe))
    assert made.num_parameters == BERT_PARAMETERS
    return made.stages[0]


def test_steps_and_tokens_follow_from_rows_and_lengths():
    row = plan(
        epochs=2.0,
        mixture={"batch_size": 100, "max_negatives": 3},
        training={"query_max_tokens": 64, "document_max_tokens": 256},
    )
    assert row.num_rows == 10_000
    assert row.num_steps == 200
    assert row.max_tokens == 200 * 100 * (64 + 4 * 256)


def test_epochs_without_rows_are_told():
    row = plan(epochs=1.0, sources={"a": {}})
    assert row.num_steps is None
    assert row.note == "epochs are given, but not how many rows"


@pytest.mark.parametrize(
    ("training", "bytes_per_parameter"),
    [
        ({}, 16),
        ({"strategy": "deepspeed", "deepspeed_stage": 1}, 8 + 8 / 4),
        ({"strategy": "deepspeed", "deepspeed_stage": 2}, 4 + 12 / 4),
        ({"strategy": "fsdp"}, 16 / 4),
    ],
)
def test_states_are_shared_as_the_strategy_shares_them(training, bytes_per_parameter):
    small = {"mixture": {"batch_size": 4}, "max_tokens": 8}
    shared = {"num_steps": 1, "micro_batch_tokens": 8, "gradient_checkpointing": True}
    row = plan(hardware={"num_gpus": 4}, **small, training={**shared, **training})
    assert row.memory_gib == pytest.approx(BERT_PARAMETERS * bytes_per_parameter / GIB, abs=0.06)


def test_adapters_learn_over_frozen_weights():
    training = {"num_steps": 1, "micro_batch_tokens": 8, "gradient_checkpointing": True}
    small = {"mixture": {"batch_size": 4}, "max_tokens": 8}
    row = plan(**small, training={**training, "lora": {"rank": 16}})
    # Twelve layers of four square matrices and two of 768 x 3072.
    adapters = 16 * 12 * (4 * 1536 + 2 * 3840)
    expected = (4 * BERT_PARAMETERS + 16 * adapters) / GIB
    assert row.memory_gib == pytest.approx(expected, abs=0.06)


def test_what_does_not_fit_is_told():
    row = plan(hardware={"memory_gib": 1.0}, training={"num_steps": 1})
    assert row.note == "does not fit into 1 GiB"


def test_rows_of_a_stage_pass_through_mining_and_filtering():
    recipe = {
        "name": "chain",
        "backbone": {"model": "nowhere", "max_tokens": 64, "shape": BERT},
        "stages": {
            "kept": {"kind": "filter", "model": "base",
                     "sources": {"a": {"num_pairs": 900}}},
            "hard": {"kind": "mine", "model": "base", "pairs": "kept", "max_queries": 500},
            "train": {"kind": "contrastive", "model": "base", "pairs": "hard", "epochs": 1.0,
                      "mixture": {"batch_size": 50}},
        },
    }  # fmt: skip
    stages = make_plan(Recipe.model_validate(recipe)).stages
    assert [stage.num_rows for stage in stages] == [900, 500, 500]
    assert stages[2].num_steps == 10
