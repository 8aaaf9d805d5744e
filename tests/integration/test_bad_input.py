"""What a user can mend is one line that says what, where and what to do; exit code 2."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from opengte.cli.main import run

PAIR = '{"query": "how to decode json", "positive": "json.loads turns text into values"}\n'
LIGHT = ["--set", "stages.corpus.packages=[]", "--set", "stages.corpus.standard_library=false"]


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 2, captured.err
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


def quickstart(capsys: pytest.CaptureFixture[str], data: Path, out: Path, *more: str) -> str:
    message = error_of(capsys, "quickstart", "--data", data, "--out", out, *LIGHT, *more)
    # Nothing half-written: the folder holds the recipe and no stage's output.
    left = {path.name for path in out.rglob("*")} if out.exists() else set()
    assert not left & {"train.jsonl", "model", "summary.json", "report.html", "index"}
    assert not [name for name in left if name.endswith(".tmp")]
    return message


def test_an_empty_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = quickstart(capsys, tmp_path / "empty", tmp_path / "out")
    assert f"{tmp_path / 'empty'}: nothing to read here" in message


def test_a_folder_with_nothing_readable_says_what_was_skipped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "binary"
    folder.mkdir()
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "b.py").write_bytes(b"\x00\x01\x02" * 50)
    message = quickstart(capsys, folder, tmp_path / "out")
    assert "nothing to read here" in message
    assert "1 x binary" in message


def test_a_path_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = quickstart(capsys, tmp_path / "nowhere", tmp_path / "out")
    assert "nowhere: no such file" in message


def test_a_binary_file_given_directly(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(bytes(range(256)) * 20)
    message = quickstart(capsys, path, tmp_path / "out")
    assert "pairs.jsonl" in message


def test_a_line_of_200_megabytes_is_refused_without_being_held(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    with open(path, "wb") as stream:
        stream.write(PAIR.encode())
        stream.write(b'{"query": "')
        for _ in range(20):
            stream.write(b"a" * 10_000_000)
    message = quickstart(capsys, path, tmp_path / "out")
    assert "pairs.jsonl:2" in message


def test_invalid_utf8_names_line_and_byte(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(PAIR.encode() + b'{"query": "caf\xe9", "positive": "x"}\n')
    message = quickstart(capsys, path, tmp_path / "out")
    assert "pairs.jsonl:2" in message
    assert "UTF-8" in message


def test_a_line_without_positive_names_the_fields_it_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(PAIR + '{"query": "a", "answer": "b"}\n')
    message = quickstart(capsys, path, tmp_path / "out")
    assert "pairs.jsonl:2: no field 'positive'" in message
    assert "answer" in message


def test_too_few_pairs_says_how_many_are_needed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(PAIR)
    message = quickstart(capsys, path, tmp_path / "out")
    assert "only 1 pairs" in message
    assert "60 are needed" in message


def test_an_unknown_recipe_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: quickstart\nname: mine\nsed: 3\n")
    message = error_of(capsys, "run", recipe, "--out", tmp_path / "out")
    assert "mine.yaml:3: unknown key 'sed'; did you mean 'seed'?" in message
    assert not (tmp_path / "out").exists()


def test_a_model_folder_without_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, minilm_folder: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "modules.json"):
        (folder / name).write_bytes((minilm_folder / name).read_bytes())
    message = quickstart(capsys, tmp_path, tmp_path / "out", "--model", str(folder))
    assert "model" in message
    message = error_of(capsys, "evaluate", folder, "--task", tmp_path)
    assert "error" in message


def test_questions_that_name_no_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"query": "how?", "paths": ["a.py"]}\n{"query": "why?"}\n')
    data = tmp_path / "data"
    data.mkdir()
    functions = (
        f'def f{i}(x):\n    """Return number {i} of the {i % 7} sort of thing."""\n    return {i}\n'
        for i in range(300)
    )
    (data / "a.py").write_text("\n\n".join(functions))
    message = quickstart(capsys, data, tmp_path / "out", "--queries", str(questions))
    assert "questions.jsonl:2: no field 'paths'" in message


def test_a_full_disk_keeps_what_is_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: quickstart\nname: mine\n")
    message = error_of(capsys, "run", recipe, "--out", tmp_path / "out")
    monkeypatch.undo()
    assert "no space left on the device; free some and run the same command again" in message
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


def test_a_fault_of_ours_is_told_apart_and_its_traceback_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opengte.pipeline import recipe

    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(recipe, "load_recipe", broken)
    assert run(["recipe", "show", "quickstart"]) == 1
    message = capsys.readouterr().err
    assert "fault: RuntimeError: bug" in message
    path = message.split()[-1]
    assert "RuntimeError: bug" in Path(path).read_text()
    Path(path).unlink()
