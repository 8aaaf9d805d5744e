"""A reader sees the old file or the new one; a full disk leaves the old one and no rest."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from opengte import atomic
from opengte.errors import ConfigError, MissingExtraError, StorageError, UserError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    with pytest.raises(RuntimeError), atomic.atomic_file(path, mode="w") as stream:
        stream.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageError, match=r"a.txt: no space left on the device; free some"):
        atomic.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic.atomic_folder(target) as folder:
        (folder / "one").write_text("1")
    with pytest.raises(RuntimeError), atomic.atomic_folder(target) as folder:
        (folder / "two").write_text("2")
        raise RuntimeError
    assert os.listdir(target) == ["one"]
    with atomic.atomic_folder(target) as folder:
        (folder / "three").write_text("3")
    assert os.listdir(target) == ["three"]
    assert os.listdir(tmp_path) == ["model"]


def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path) -> None:
    aside = tmp_path / ".model.old"
    aside.mkdir()
    (aside / "one").write_text("1")
    atomic.recover_folder(tmp_path / "model")
    assert os.listdir(tmp_path / "model") == ["one"]
    assert os.listdir(tmp_path) == ["model"]


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not os.listdir(tmp_path)


def test_errors_name_file_line_and_what_to_do() -> None:
    assert (
        str(UserError("no field 'query'", path="a.jsonl", line=3)) == "a.jsonl:3: no field 'query'"
    )
    message = str(MissingExtraError("jieba", extra="zh"))
    assert message == 'jieba is not installed; pip install "opengte[zh]"'
    assert issubclass(ConfigError, ValueError)
