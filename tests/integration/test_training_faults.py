"""The shipped command, killed for real, ends as if it had not been.

Every kill is SIGKILL, sent to the process of ``gte run`` after a random time, which is printed
with the seed it was drawn from, and with what the kill hit: a step, or the writing of a checkpoint.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from opengte.models.weights import save_encoder
from opengte.training.checkpoint import CheckpointStore

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "training"))

from tiny_training import WordBatches, make_encoder

CHECKPOINT_EVERY = 2
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
PATIENCE = 300.0
"""Seconds after which a program that says nothing has failed, on the slowest of machines."""


@dataclass(frozen=True)
class Run:
    """A run folder and the recipe that fills it."""

    recipe: Path
    folder: Path

    @property
    def training(self) -> Path:
        return self.folder / "stages" / "train" / "training"

    @property
    def command(self) -> list[str]:
        program = [sys.executable, "-m", "opengte.cli.main", "run"]
        return [*program, str(self.recipe), "--out", str(self.folder), "--quiet"]

    def newest_step(self) -> int:
        """Of a checkpoint that is whole, or renamed into its place."""
        store = CheckpointStore(self.training / "checkpoints", keep_last=2, asynchronous=False)
        return max(store.steps(), default=0)

    def logged_step(self) -> int:
        path = self.training / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        whole = [line for line in lines if line.endswith("}")]
        return json.loads(whole[-1])["step"] if whole else 0

    def is_writing_a_checkpoint(self) -> bool:
        return any(self.training.glob("checkpoints/.step-*"))

    def losses(self) -> list[tuple[int, float]]:
        rows = map(json.loads, (self.training / "metrics.jsonl").read_text().splitlines())
        return [(row["step"], row["loss"]) for row in rows]

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "model" / "model.safetensors")


def write_recipe(folder: Path, *, num_steps: int) -> Path:
    """A tiny model, pairs of words, and a recipe that trains on them with dropout."""
    save_encoder(make_encoder(), folder / "base")
    batches = WordBatches(size=50, num_negatives=0)
    pairs = [
        {"query": query, "positive": positive}
        for step in range(4)
        for query, positive in zip(
            batches.batch(step).queries, batches.batch(step).positives, strict=True
        )
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    training = {
        "num_steps": num_steps,
        "learning_rate": 1e-3,
        "precision": "float32",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "checkpoint_every": CHECKPOINT_EVERY,
        "micro_batch_tokens": 60,
    }
    stage = {
        "kind": "contrastive",
        "model": "base",
        "sources": {"words": {"path": str(folder / "pairs.jsonl")}},
        "loss": {"kind": "improved_contrastive", "temperature": 0.05},
        "mixture": {"batch_size": 8},
        "training": training,
        "output": "model",
    }
    recipe = {
        "name": "faults",
        "backbone": {"model": str(folder / "base"), "max_tokens": 48},
        "stages": {"train": stage},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@dataclass(frozen=True)
class Straight:
    """A run that nobody disturbed, and the seconds its steps took, without checkpoints."""

    run: Run
    num_steps: int
    seconds: float


def run_straight(folder: Path, *, num_steps: int) -> Straight:
    run = Run(write_recipe(folder, num_steps=num_steps), folder / "straight")
    finish(run)  # by a process of its own too: bits depend on the number of threads
    rows = map(json.loads, (run.training / "metrics.jsonl").read_text().splitlines())
    return Straight(run, num_steps, sum(row["seconds"] for row in rows))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    return run_straight(tmp_path_factory.mktemp("short"), num_steps=16)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    return run_straight(tmp_path_factory.mktemp("long"), num_steps=120)


def start(run: Run) -> subprocess.Popen[bytes]:
    """Start the command and wait until its next step is done, or the command."""
    before = run.logged_step()
    with open(f"{run.folder}.stderr", "ab") as messages:
        process = subprocess.Popen(
            run.command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=messages
        )
    # A run that goes on first drops the lines behind its checkpoint.
    ends = time.monotonic() + PATIENCE
    size = None
    metrics = run.training / "metrics.jsonl"
    while process.poll() is None and time.monotonic() < ends:
        found = metrics.stat().st_size if metrics.exists() else 0
        if size is not None and found > size and (before == 0 or found > 0):
            break
        size = found if size is None or found < size else size
        time.sleep(0.002)
    return process


def finish(run: Run) -> str:
    """Run the command to its end and give what it said."""
    done = subprocess.run(
        run.command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def assert_ends_like(run: Run, straight: Straight) -> None:
    ours, theirs = run.weights(), straight.run.weights()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert run.losses() == straight.run.losses()
    assert not run.is_writing_a_checkpoint()


def kill_once(run: Run, straight: Straight, delay: float) -> str | None:
    """Kill the command ``delay`` seconds after a step; what that hit, None if all was done."""
    before = run.newest_step()
    process = start(run)
    time.sleep(delay)
    process.kill()
    assert process.wait() in (0, -signal.SIGKILL)
    saved, logged = run.newest_step(), run.logged_step()
    assert saved >= before
    if (run.training.parent / "stage.json").exists():
        return None
    # One checkpoint is being written while the steps up to the next one go on.
    assert logged - saved <= 2 * CHECKPOINT_EVERY
    hit = "the writing of a checkpoint" if run.is_writing_a_checkpoint() else "a step"
    return f"{hit}; step {logged} was done, step {saved} is saved"


def kill_and_go_on(straight: Straight, folder: Path, *, num_kills: int, seed: int) -> list[str]:
    print(f"seed {seed}")  # pytest shows it where the test fails
    draw = random.Random(seed)
    run, hits = Run(straight.run.recipe, folder / "run"), list[str]()
    while len(hits) < num_kills:
        left = (1.0 - run.newest_step() / straight.num_steps) * straight.seconds
        delay = draw.uniform(0.0, 1.5 * left / (num_kills - len(hits) + 1))
        hit = kill_once(run, straight, delay)
        if hit is None:  # what is left to kill is another run
            finish(run)
            assert_ends_like(run, straight)
            run = Run(straight.run.recipe, folder / f"run-{len(hits)}")
            continue
        hits.append(hit)
        print(f"kill {len(hits)} after {delay:.3f} s hit {hit}")
    finish(run)
    assert_ends_like(run, straight)
    return hits


def test_killed_twice_ends_like_straight(short: Straight, tmp_path: Path) -> None:
    kill_and_go_on(short, tmp_path, num_kills=2, seed=random.randrange(2**32))


@pytest.mark.slow
def test_killed_twenty_times_ends_like_straight(long: Straight, tmp_path: Path) -> None:
    hits = kill_and_go_on(long, tmp_path, num_kills=20, seed=random.randrange(2**32))
    assert {hit.split(";")[0] for hit in hits} == {"a step", "the writing of a checkpoint"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_flipped_byte_is_refused_by_name_and_the_run_ends_like_straight(
    long: Straight, tmp_path: Path, name: str
) -> None:
    run = Run(long.run.recipe, tmp_path / "run")
    process = start(run)
    while len(list(run.training.glob("checkpoints/step-*"))) < 2 and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    step = run.newest_step()
    damaged = run.training / "checkpoints" / f"step-{step:08d}" / name
    content = bytearray(damaged.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    damaged.write_bytes(content)
    said = finish(run)
    assert f"step-{step:08d}/{name}: damaged: its SHA-256 is" in said
    assert "going on from the checkpoint before it" in said
    assert_ends_like(run, long)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_the_same_command_goes_on(
    long: Straight, tmp_path: Path, wanted: signal.Signals
) -> None:
    run = Run(long.run.recipe, tmp_path / "run")
    process = start(run)
    process.send_signal(wanted)
    code = process.wait(timeout=PATIENCE)
    assert code == 128 + wanted
    assert run.newest_step() == run.logged_step() > 0
    finish(run)
    assert_ends_like(run, long)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, too small for the run."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_keeps_the_checkpoint_before(long: Straight, small_disk: Path) -> None:
    run = Run(long.run.recipe, small_disk / "run")
    # Room for one checkpoint and a half, beside what the stage writes first.
    grow(small_disk, kibibytes=320 + 3 * checkpoint_kibibytes() // 2)
    done = subprocess.run(
        run.command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "no space left on the device; free some and run" in done.stderr
    checkpoint, warnings = CheckpointStore(
        run.training / "checkpoints", keep_last=2, asynchronous=False
    ).latest()
    assert checkpoint is not None
    assert checkpoint.step > 0
    assert warnings == []
    grow(small_disk, kibibytes=20_000)
    finish(run)
    assert_ends_like(run, long)


def checkpoint_kibibytes() -> int:
    """Weights and two moments, in float32."""
    num_parameters = sum(p.numel() for p in make_encoder().parameters())
    return 3 * 4 * num_parameters // 1024


def grow(folder: Path, *, kibibytes: int) -> None:
    options = f"remount,size={kibibytes}k"
    subprocess.run(["mount", "-o", options, str(folder)], check=True)
