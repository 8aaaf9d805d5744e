from __future__ import annotations

import pytest

from opengte.errors import ConfigError
from opengte.training.config import LoraConfig, TrainingConfig, learning_settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps must be >= 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be > 0, got nan"),
        ({"warmup": 1.0}, r"warmup must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
        ({"weight_decay": -1.0}, "weight_decay must be >= 0, got -1.0"),
        ({"adam_betas": (0.9, 1.0)}, r"adam_betas must be in \[0, 1\), got \(0.9, 1.0\)"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be > 0, got 0.0"),
        ({"micro_batch_tokens": 0}, "micro_batch_tokens must be >= 1, got 0"),
        ({"keep_last": 0}, "keep_last must be >= 1, got 0"),
        (
            {"num_steps": 5, "max_training_tokens": 100},
            "num_steps and max_training_tokens both say how long to train",
        ),
        ({"frozen_layers": -1}, "frozen_layers must be >= 0, got -1"),
        ({"lora": LoraConfig(), "frozen": ("words",)}, "leave frozen out beside it"),
        ({"lora": LoraConfig(), "frozen_layers": 2}, "leave frozen out beside it"),
    ],
)
def test_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be >= 1, got 0"),
        ({"alpha": 0.0}, "alpha must be > 0, got 0.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_lora_refuses(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoraConfig(**settings)  # type: ignore[arg-type]


def test_where_checkpoints_go_does_not_decide_what_is_learned() -> None:
    often, rarely = TrainingConfig(checkpoint_every=1), TrainingConfig(checkpoint_every=1000)
    assert learning_settings(often) == learning_settings(rarely)
    assert learning_settings(often) != learning_settings(TrainingConfig(seed=1))
