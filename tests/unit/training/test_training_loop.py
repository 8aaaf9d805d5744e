"""A run that was interrupted ends as one that was not."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opengte.contracts import StepContext
from opengte.errors import ConfigError, StorageError
from opengte.losses.config import ImprovedContrastiveConfig
from opengte.models.encoder import Encoder
from opengte.training import checkpoint
from opengte.training.config import LoraConfig, TrainingConfig
from opengte.training.divergence import DivergenceError
from opengte.training.loop import TrainingResult, train
from opengte.training.saving import load_checkpoint_weights
from opengte.training.stop_signals import TrainingStopped
from opengte.training.token_count import steps_for_tokens, tokens_per_step

NewEncoder = Callable[..., Encoder]
LOSS = ImprovedContrastiveConfig(temperature=0.05)
CONFIG = TrainingConfig(
    num_steps=9,
    learning_rate=1e-3,
    precision="float32",
    dropout=0.1,
    attention_dropout=0.1,
    checkpoint_every=2,
    micro_batch_tokens=100,
)
TIMES = ("seconds", "tokens_per_second", "memory_gib")


class Stop(Exception):
    """What a test raises in the place of a kill."""


class Recorder:
    """A callback that counts, returns a number, and can end the run."""

    def __init__(self, *, stop_after: int | None = None, values: Mapping[int, float] | None = None):
        self.stop_after = stop_after
        self.values = values or {}
        self.steps: list[int] = []
        self.seen_in_training_mode = False

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        self.steps.append(context.step)
        self.seen_in_training_mode |= context.encoder.training  # type: ignore[attr-defined]
        if context.step == self.stop_after:
            raise Stop
        return {"dev": self.values[context.step]} if context.step in self.values else None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = list(state["steps"])


def run(
    encoder: Encoder,
    batches: object,
    folder: Path,
    config: TrainingConfig = CONFIG,
    **settings: Any,
) -> TrainingResult:
    quiet = {"progress": lambda done, total: None, **settings}
    return train(encoder, batches, config, loss=LOSS, folder=folder, **quiet)  # type: ignore[arg-type]


def same_weights(a: Encoder, b: Encoder) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("stop_after", [1, 2, 5, 8])
def test_resumed_equals_straight_bit_for_bit_with_dropout(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    tmp_path: Path,
    stop_after: int,
    asynchronous: bool,
) -> None:
    config = replace(CONFIG, asynchronous_checkpoints=asynchronous)
    straight = new_encoder()
    expected = run(straight, new_batches(), tmp_path / "straight", config, callbacks=[Recorder()])
    with pytest.raises(Stop):
        run(
            new_encoder(),
            new_batches(),
            tmp_path / "resumed",
            config,
            callbacks=[Recorder(stop_after=stop_after)],
        )
    resumed, recorder = new_encoder(seed=99), Recorder()
    if stop_after <= config.checkpoint_every:
        resumed = new_encoder()  # stopped before the first checkpoint: it starts again
    result = run(resumed, new_batches(), tmp_path / "resumed", config, callbacks=[recorder])
    assert same_weights(resumed, straight)
    assert metrics_of(tmp_path / "resumed") == metrics_of(tmp_path / "straight")
    assert recorder.steps == list(range(1, 10))
    same = {"seconds": 0.0, "checkpoint": tmp_path}
    assert replace(result, **same) == replace(expected, **same)


def test_a_finished_run_is_not_run_again(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    first, second = new_encoder(), new_encoder(seed=5)
    result = run(first, new_batches(), tmp_path)
    again = run(second, new_batches(), tmp_path)
    assert same_weights(first, second)
    assert again == result


def test_loss_falls(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    config = replace(CONFIG, num_steps=60, warmup=0.0, checkpoint_every=100)
    result = run(new_encoder(), new_batches(num_negatives=0), tmp_path, config)
    assert result.last_losses["pairs"] < 0.8 * result.first_losses["pairs"]


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    straight = new_encoder()
    run(straight, new_batches(), tmp_path / "straight")
    with pytest.raises(Stop):
        run(new_encoder(), new_batches(), tmp_path / "b", callbacks=[Recorder(stop_after=7)])
    damaged = tmp_path / "b" / "checkpoints" / "step-00000006" / "optimizer.safetensors"
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    # The callback's state is in the checkpoint, so a callback must stand here again.
    resumed = new_encoder()
    run(resumed, new_batches(), tmp_path / "b", callbacks=[Recorder()])
    assert same_weights(resumed, straight)
    message = capsys.readouterr().err
    assert "warning: " in message
    assert "step-00000006/optimizer.safetensors: damaged" in message


def test_sigterm_saves_and_exits_and_the_same_command_goes_on(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    straight = new_encoder()
    run(straight, new_batches(), tmp_path / "straight")

    def terminate(done: int, total: int | None) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingStopped) as caught:
        run(new_encoder(), new_batches(), tmp_path / "b", progress=terminate)
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler
    assert "stopped after step 4; the same command goes on" in capsys.readouterr().err
    assert (tmp_path / "b" / "checkpoints" / "step-00000004").is_dir()
    resumed = new_encoder()
    run(resumed, new_batches(), tmp_path / "b")
    assert same_weights(resumed, straight)


def test_callbacks_see_an_encoder_that_does_not_drop(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    recorder = Recorder()
    encoder = new_encoder()
    run(encoder, new_batches(), tmp_path, callbacks=[recorder])
    assert recorder.steps == list(range(1, 10))
    assert not recorder.seen_in_training_mode
    assert not encoder.training


def test_a_callback_does_not_change_what_is_learned(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    class Noisy(Recorder):
        def on_step(self, context: StepContext) -> Mapping[str, float] | None:
            torch.rand(context.step)
            context.encoder.encode(["w1 w2", "w3"])
            return super().on_step(context)

    alone, watched = new_encoder(), new_encoder()
    run(alone, new_batches(), tmp_path / "alone")
    run(watched, new_batches(), tmp_path / "watched", callbacks=[Noisy()])
    assert same_weights(alone, watched)


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 5)])
def test_the_best_checkpoint_stays(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    tmp_path: Path,
    mode: str,
    best: int,
) -> None:
    config = replace(CONFIG, best_metric="dev", best_mode=mode, keep_last=1)  # type: ignore[arg-type]
    values = {3: 0.9, 5: 0.1, 7: 0.5}
    encoder = new_encoder()
    result = run(encoder, new_batches(), tmp_path, config, callbacks=[Recorder(values=values)])
    assert (result.best_step, result.best_value) == (best, values[best])
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [f"step-{best:08d}", "step-00000009"]
    other = new_encoder(seed=4)
    state = load_checkpoint_weights(other, tmp_path / "checkpoints" / kept[0])
    assert state["totals"]["step"] == best
    assert not same_weights(other, encoder)
    load_checkpoint_weights(other, result.checkpoint)
    assert same_weights(other, encoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 5e-4}, "learning_rate was 0.001, now 0.0005"),
        ({"num_steps": 20}, "num_steps was 9, now 20"),
    ],
)
def test_another_run_s_folder_is_refused(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    run(new_encoder(), new_batches(), tmp_path)
    with pytest.raises(ConfigError, match=f"its checkpoints belong to another run: {message}"):
        run(new_encoder(), new_batches(), tmp_path, replace(CONFIG, **change))


def test_other_batches_are_refused(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    run(new_encoder(), new_batches(), tmp_path)
    with pytest.raises(ConfigError, match="batches was words-0-12-2, now words-1-12-2"):
        run(new_encoder(), new_batches(seed=1), tmp_path)


def test_checkpoints_may_come_more_often_when_a_run_goes_on(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run(new_encoder(), new_batches(), tmp_path, callbacks=[Recorder(stop_after=5)])
    often = replace(CONFIG, checkpoint_every=1)
    run(new_encoder(), new_batches(), tmp_path, often, callbacks=[Recorder()])


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    class Poison(Recorder):
        def on_step(self, context: StepContext) -> Mapping[str, float] | None:
            if context.step == 4:
                with torch.no_grad():
                    context.encoder.backbone.layers[0].feed_forward.up.bias[0] = torch.nan  # type: ignore[attr-defined]
            return None

    with pytest.raises(DivergenceError, match=r'the loss of step 5 is nan: .* of source "pairs"'):
        run(new_encoder(), new_batches(), tmp_path, callbacks=[Poison()])
    assert (tmp_path / "checkpoints" / "step-00000002").is_dir()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_stops_the_run_and_the_same_command_goes_on(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asynchronous: bool,
) -> None:
    config = replace(CONFIG, asynchronous_checkpoints=asynchronous)
    straight, resumed = new_encoder(), new_encoder()
    run(straight, new_batches(), tmp_path / "straight", config)
    plain_write, calls = checkpoint.write_tensors, []

    def fills_up(path: Path, *arguments: Any) -> str:
        calls.append(path)
        if len(calls) == 6:  # the moments of the third checkpoint
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain_write(path, *arguments)

    monkeypatch.setattr(checkpoint, "write_tensors", fills_up)
    with pytest.raises(StorageError, match="no space left on the device; free some and run"):
        run(new_encoder(), new_batches(), tmp_path / "b", config)
    monkeypatch.undo()
    kept = sorted(path.name for path in (tmp_path / "b" / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000004"]
    run(resumed, new_batches(), tmp_path / "b", config)
    assert same_weights(resumed, straight)


def test_frozen_parameters_stay(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    config = replace(CONFIG, frozen=("positions", "words"), frozen_layers=1)
    before, after = new_encoder(), new_encoder()
    run(after, new_batches(), tmp_path, config)
    for (name, a), b in zip(before.named_parameters(), after.parameters(), strict=True):
        frozen = name.startswith(
            (
                "backbone.embeddings.word.",
                "backbone.embeddings.position.",
                "backbone.layers.0.",
            )
        )
        assert torch.equal(a, b) == frozen, name


def test_freezing_everything_is_refused(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="frozen: nothing is left to train"):
        run(new_encoder(), new_batches(), tmp_path, replace(CONFIG, frozen=("backbone",)))


@pytest.mark.filterwarnings("ignore:.*:UserWarning:peft.*")
def test_adapters_learn_go_on_and_end_in_the_weights(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    config = replace(CONFIG, lora=LoraConfig(rank=4, dropout=0.1), learning_rate=1e-2)
    before, straight, resumed = new_encoder(), new_encoder(), new_encoder()
    run(straight, new_batches(), tmp_path / "straight", config)
    with pytest.raises(Stop):
        run(
            new_encoder(),
            new_batches(),
            tmp_path / "b",
            config,
            callbacks=[Recorder(stop_after=5)],
        )
    run(resumed, new_batches(), tmp_path / "b", config, callbacks=[Recorder()])
    assert same_weights(resumed, straight)
    names = [name for name, _ in before.named_parameters()]
    assert names == [name for name, _ in straight.named_parameters()]
    for (name, a), b in zip(before.named_parameters(), straight.parameters(), strict=True):
        adapted = "layers" in name and name.endswith("weight") and ".norm." not in name
        assert torch.equal(a, b) != adapted, name
    files = tmp_path / "straight" / "checkpoints" / "step-00000009"
    small = (files / "weights.safetensors").stat().st_size
    assert small < 4 * sum(p.numel() for p in before.parameters()) / 3


def test_adapters_beside_another_base_are_refused(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    config = replace(CONFIG, lora=LoraConfig(rank=4))
    run(new_encoder(), new_batches(), tmp_path, config)
    with pytest.raises(ConfigError, match="another run: frozen weights was"):
        run(new_encoder(seed=3), new_batches(), tmp_path, config)


def test_a_budget_of_tokens_becomes_steps(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    encoder, batches = new_encoder(), new_batches()
    steps = steps_for_tokens(batches, encoder, CONFIG, max_tokens=10_000)  # type: ignore[arg-type]
    result = run(encoder, batches, tmp_path, replace(CONFIG, num_steps=steps))
    assert result.num_tokens == pytest.approx(10_000, rel=0.1)
    per_step = tokens_per_step(batches, encoder, CONFIG)  # type: ignore[arg-type]
    assert per_step * steps == pytest.approx(10_000, rel=0.05)


def test_a_run_without_an_end_is_refused(
    new_encoder: NewEncoder, new_batches: Callable[..., object], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="num_steps is not set"):
        run(new_encoder(), new_batches(), tmp_path, replace(CONFIG, num_steps=None))


def test_a_line_on_stderr_says_where_the_run_is(
    new_encoder: NewEncoder,
    new_batches: Callable[..., object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(new_encoder(), new_batches(), tmp_path, progress=None)
    last = capsys.readouterr().err.splitlines()[-1]
    for part in ("step 9/9", "pairs ", "triplets ", "tokens/s", "padding", "GiB", "left"):
        assert part in last
