from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from opengte.errors import StorageError
from opengte.training import tensor_file
from opengte.training.checkpoint import (
    CheckpointError,
    CheckpointStore,
    Snapshot,
    TensorStream,
    read_checkpoint,
    write_checkpoint,
)
from opengte.training.tensor_file import TensorSpec, file_digest, write_tensors

FILES = ("weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


def make_snapshot(step: int = 3) -> Snapshot:
    weights = {"a": torch.arange(6.0).view(2, 3) + step, "b": torch.tensor(1.5)}
    moments = {"a/exp_avg": torch.randn(2, 3)}
    return Snapshot(step, TensorStream.of(weights), TensorStream.of(moments), {"note": [1, 0.1]})


def make_store(folder: Path, **settings: object) -> CheckpointStore:
    return CheckpointStore(folder, **{"keep_last": 2, "asynchronous": False, **settings})  # type: ignore[arg-type]


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 0x10
    path.write_bytes(content)


def test_gives_back_what_was_saved(tmp_path: Path) -> None:
    snapshot = make_snapshot()
    write_checkpoint(tmp_path / "step-00000003", snapshot)
    checkpoint = read_checkpoint(tmp_path / "step-00000003")
    assert checkpoint.step == 3
    assert checkpoint.state == {"step": 3, "note": [1, 0.1]}
    for name, tensor in dict(snapshot.weights.tensors).items():
        assert torch.equal(checkpoint.weights()[name], tensor)
    assert torch.equal(
        checkpoint.optimizer()["a/exp_avg"], dict(snapshot.optimizer.tensors)["a/exp_avg"]
    )


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]
)
def test_tensor_files_are_what_the_library_reads(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"x": torch.randn(3, 5).to(dtype), "empty": torch.zeros(0, 4, dtype=dtype)}
    tensors["transposed"] = tensors["x"].t()
    specs = {name: TensorSpec.of(tensor) for name, tensor in tensors.items()}
    digest = write_tensors(tmp_path / "t.safetensors", specs, tensors.items())
    assert digest == file_digest(tmp_path / "t.safetensors")
    for name, tensor in safetensors.torch.load_file(tmp_path / "t.safetensors").items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, tensors[name])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, 11, -1, 77])
def test_a_flipped_byte_is_refused_by_name(tmp_path: Path, name: str, position: int) -> None:
    write_checkpoint(tmp_path / "c", make_snapshot())
    flip_byte(tmp_path / "c" / name, position)
    with pytest.raises(CheckpointError, match=r"damaged|format") as caught:
        read_checkpoint(tmp_path / "c")
    assert caught.value.path is not None
    assert caught.value.path.name == name or name == "manifest.json"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path / "c", make_snapshot())
    (tmp_path / "c" / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing from the checkpoint"):
        read_checkpoint(tmp_path / "c")


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", make_snapshot())
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    manifest["format"] = 99
    del manifest["own"]
    from opengte.training.checkpoint import _own_digest

    (tmp_path / "c" / "manifest.json").write_text(
        json.dumps({**manifest, "own": _own_digest(manifest)})
    )
    with pytest.raises(CheckpointError, match="format 99 was written by another version"):
        read_checkpoint(tmp_path / "c")


def test_falls_back_to_the_checkpoint_before_a_damaged_one(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.save(make_snapshot(1), best_step=None)
    store.save(make_snapshot(2), best_step=None)
    flip_byte(store.path(2) / "weights.safetensors", 100)
    checkpoint, warnings = store.latest()
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert len(warnings) == 1
    assert "step-00000002/weights.safetensors: damaged" in warnings[0]
    assert warnings[0].endswith("going on from the checkpoint before it")
    assert store.steps() == [1]
    assert (tmp_path / "step-00000002.damaged").is_dir()


def test_refuses_when_every_checkpoint_is_damaged(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for step in (1, 2):
        store.save(make_snapshot(step), best_step=None)
        flip_byte(store.path(step) / "optimizer.safetensors", 50)
    with pytest.raises(CheckpointError, match="no checkpoint is whole") as caught:
        store.latest()
    assert "step-00000002/optimizer.safetensors" in str(caught.value)


def test_nothing_yet_is_no_error(tmp_path: Path) -> None:
    assert make_store(tmp_path / "absent").latest() == (None, [])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_keeps_the_last_and_the_best(tmp_path: Path, asynchronous: bool) -> None:
    store = make_store(tmp_path, asynchronous=asynchronous)
    for step in range(1, 7):
        store.save(make_snapshot(step), best_step=2 if step >= 2 else None)
    store.wait()
    assert store.steps() == [2, 5, 6]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    store = make_store(tmp_path, asynchronous=asynchronous)
    store.save(make_snapshot(1), best_step=None)
    store.wait()

    def full(*_: object) -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensor_file, "_file_blocks", full)
    with pytest.raises(StorageError, match="no space left on the device"):
        store.save(make_snapshot(2), best_step=None)
        store.wait()
    monkeypatch.undo()
    checkpoint, warnings = store.latest()
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (1, [])
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_an_asynchronous_checkpoint_is_of_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    values: dict[str, Tensor] = {"a": torch.zeros(1000)}
    copies = {"a": values["a"].clone()}
    store = make_store(tmp_path, asynchronous=True)
    store.save(Snapshot(1, TensorStream.of(copies), TensorStream.of({}), {}), best_step=None)
    values["a"].fill_(1.0)
    store.wait()
    assert not read_checkpoint(store.path(1)).weights()["a"].any()


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.save(make_snapshot(1), best_step=None)
    half = tmp_path / ".step-00000002.abc.tmp"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    checkpoint, _ = store.latest()
    assert checkpoint is not None
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_replacement_that_was_killed_between_two_renames_is_undone(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.save(make_snapshot(1), best_step=None)
    store.path(1).rename(tmp_path / ".step-00000001.old")
    checkpoint, _ = store.latest()
    assert checkpoint is not None
    assert checkpoint.step == 1
