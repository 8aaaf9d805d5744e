"""The state of a run -> a folder that is whole or absent, checked byte by byte before it is used.

Layout of ``checkpoints/step-00000200``: ``weights.safetensors``, ``optimizer.safetensors``
(AdamW's moments), ``state.json`` (everything else) and ``manifest.json`` (SHA-256 of the three).
Tensors are whole, never sharded, whatever the number of ranks: any number can go on from them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from opengte.atomic import atomic_folder, recover_folder, write_json
from opengte.errors import UserError
from opengte.training.tensor_file import TensorSpec, file_digest, read_tensors, write_tensors

FORMAT = 1
WEIGHTS, OPTIMIZER, STATE, MANIFEST = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
NAME = re.compile(r"step-(\d{8,})$")
PASSED_OVER = "; going on from the checkpoint before it"


class CheckpointError(UserError):
    """A checkpoint is damaged, or belongs to another run."""


@dataclass(frozen=True)
class TensorStream:
    """Tensors that come one after the other, announced by their types and shapes."""

    specs: Mapping[str, TensorSpec]
    tensors: Iterable[tuple[str, Tensor]]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> TensorStream:
        """Tensors that are all there."""
        return cls({n: TensorSpec.of(t) for n, t in tensors.items()}, tensors.items())


@dataclass(frozen=True)
class Snapshot:
    """All that a run needs to go on as if it had never stopped.

    Attributes:
        step: steps finished.
        weights, optimizer: tensors by name.
        state: JSON-able; read back with equal values.
    """

    step: int
    weights: TensorStream
    optimizer: TensorStream
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose every byte was checked."""

    path: Path
    step: int
    state: dict[str, Any] = field(repr=False)

    def weights(self) -> dict[str, Tensor]:
        """Trained tensors by name."""
        return read_tensors(self.path / WEIGHTS)

    def optimizer(self) -> dict[str, Tensor]:
        """Moments by name."""
        return read_tensors(self.path / OPTIMIZER)


def write_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Write a checkpoint folder in one step.

    Raises:
        StorageError: the disk is full; nothing is left of it, older checkpoints are as before.
    """
    with atomic_folder(path) as folder:
        digests = {
            WEIGHTS: write_tensors(
                folder / WEIGHTS, snapshot.weights.specs, snapshot.weights.tensors
            ),
            OPTIMIZER: write_tensors(
                folder / OPTIMIZER, snapshot.optimizer.specs, snapshot.optimizer.tensors
            ),
        }
        write_json(folder / STATE, {"step": snapshot.step, **snapshot.state})
        digests[STATE] = file_digest(folder / STATE)
        manifest = {"format": FORMAT, "step": snapshot.step, "sha256": digests}
        write_json(folder / MANIFEST, {**manifest, "own": _own_digest(manifest)})


def read_checkpoint(path: Path) -> Checkpoint:
    """Check a checkpoint folder and open it.

    Raises:
        CheckpointError: a file is missing or altered; the message names it.
    """
    manifest = _read_manifest(path / MANIFEST)
    for name, expected in manifest["sha256"].items():
        if not (path / name).is_file():
            raise CheckpointError("missing from the checkpoint", path=path / name)
        found = file_digest(path / name)
        if found != expected:
            raise CheckpointError(
                f"damaged: its SHA-256 is {found[:16]}..., the manifest says {expected[:16]}...",
                path=path / name,
            )
    return read_state(path)


def read_state(path: Path) -> Checkpoint:
    """Open a checkpoint folder whose bytes were checked before."""
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    return Checkpoint(path, int(state["step"]), state)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        own = manifest.pop("own")
    except FileNotFoundError as error:
        raise CheckpointError("missing from the checkpoint", path=path) from error
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError("damaged: not a manifest", path=path) from error
    if own != _own_digest(manifest):
        raise CheckpointError("damaged: its own SHA-256 does not fit", path=path)
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"format {manifest['format']} was written by another version; this one reads {FORMAT}",
            path=path,
        )
    return dict(manifest)


def _own_digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


class CheckpointStore:
    """The checkpoints of one run: written behind the scenes, the last few and the best kept.

    Args:
        folder: ``checkpoints`` of the run.
        keep_last: how many of the newest stay.
        asynchronous: whether ``save`` returns before the files are written.
    """

    def __init__(self, folder: Path, *, keep_last: int, asynchronous: bool) -> None:
        self.folder = folder
        self.keep_last = keep_last
        self.asynchronous = asynchronous
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, snapshot: Snapshot, *, best_step: int | None) -> None:
        """Write a checkpoint; at most one is being written at any time.

        Args:
            snapshot: with tensors that nobody changes any more.
            best_step: the checkpoint that stays whatever its age.

        Raises:
            StorageError: this one, or the one before it, could not be written.
        """
        self.wait()
        if not self.asynchronous:
            self._write(snapshot, best_step)
            return
        self._thread = threading.Thread(
            target=self._write_behind, args=(snapshot, best_step), name="opengte-checkpoint"
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written; raise what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step stands."""
        return self.folder / f"step-{step:08d}"

    def open(self, step: int) -> Checkpoint:
        """The checkpoint of a step, whose bytes another rank has checked."""
        return read_state(self.path(step))

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, in order."""
        if not self.folder.is_dir():
            return []
        names = (NAME.match(entry.name) for entry in self.folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole.

        Returns:
            It, or None where there is none yet; and a line about every damaged one, which is
            renamed to ``*.damaged``.

        Raises:
            CheckpointError: there are checkpoints and all of them are damaged.
        """
        self.remove_leftovers()
        warnings: list[str] = []
        for step in reversed(self.steps()):
            try:
                return read_checkpoint(self.path(step)), warnings
            except CheckpointError as error:
                self._set_aside(step)
                warnings.append(f"{error}{PASSED_OVER}")
        if warnings:
            raise CheckpointError(
                f"no checkpoint is whole ({len(warnings)} are damaged); remove the folder to "
                f"start again; the newest: {warnings[0].removesuffix(PASSED_OVER)}",
                path=self.folder,
            )
        return None, warnings

    def remove_leftovers(self) -> None:
        """Finish or undo what a killed process left half done."""
        for leftover in self.folder.glob(".step-*"):
            recover_folder(self.folder / leftover.name.split(".")[1])

    def _set_aside(self, step: int) -> None:
        aside = self.path(step).with_suffix(".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        self.path(step).rename(aside)

    def _write_behind(self, snapshot: Snapshot, best_step: int | None) -> None:
        try:
            self._write(snapshot, best_step)
        except BaseException as error:  # handed to the training thread by wait()
            self._error = error

    def _write(self, snapshot: Snapshot, best_step: int | None) -> None:
        write_checkpoint(self.path(snapshot.step), snapshot)
        for step in self.steps()[: -self.keep_last]:
            if step != best_step:
                shutil.rmtree(self.path(step), ignore_errors=True)
