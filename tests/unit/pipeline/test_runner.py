"""The runner: what is unchanged is kept, what was killed goes on, what changed runs again."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from opengte.atomic import atomic_folder, write_text
from opengte.errors import ConfigError, DataError
from opengte.pipeline.console import Console
from opengte.pipeline.recipe import Recipe
from opengte.pipeline.runner import StageContext, StageKind, run_recipe
from opengte.runtime.hashed import HashEncoder

RECIPE = {
    "name": "small",
    "backbone": {"model": "somewhere"},
    "stages": {
        "corpus": {"kind": "corpus", "standard_library": True},
        "baseline": {"kind": "evaluate", "model": "base", "data": "corpus"},
    },
}


class Calls:
    """Fake stage kinds that write one file and count their calls."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.seeds: dict[str, int] = {}
        self.work_seen: dict[str, list[str]] = {}
        self.broken: set[str] = set()
        self.external = 1

    def run(self, config: Any, context: StageContext) -> Mapping[str, Any]:
        self.names.append(context.name)
        self.seeds[context.name] = context.seed
        self.work_seen[context.name] = sorted(p.name for p in context.work.iterdir())
        if context.name in self.broken:
            write_text(context.work / "half", "done")
            raise DataError("no such file", path="x.jsonl", line=3)
        with atomic_folder(context.output) as folder:
            write_text(folder / "out.txt", f"{context.name} {context.seed}")
        return {"written": 1}

    def kinds(self) -> dict[str, StageKind]:
        return {
            "corpus": StageKind(self.run, external_inputs=lambda config: self.external),
            "evaluate": StageKind(self.run),
        }


@pytest.fixture
def calls() -> Calls:
    return Calls()


def run(folder: Path, calls: Calls, revision: str = "r1", **changes: Any) -> Any:
    recipe = Recipe.model_validate({**RECIPE, **changes})
    calls.names.clear()
    return run_recipe(
        recipe,
        folder,
        kinds=calls.kinds(),
        find_model=Path,
        load_encoder=lambda path, max_tokens: HashEncoder(),
        fingerprint_model=lambda path: revision,
        console=Console(io.StringIO()),
    )


def test_an_unchanged_run_runs_nothing_again(tmp_path: Path, calls: Calls) -> None:
    first = run(tmp_path / "run", calls)
    assert calls.names == ["corpus", "baseline"]
    again = run(tmp_path / "run", calls)
    assert calls.names == []
    assert again == first


def test_another_seed_runs_everything_with_other_seeds(tmp_path: Path, calls: Calls) -> None:
    run(tmp_path / "run", calls)
    before = dict(calls.seeds)
    run(tmp_path / "run", calls, seed=7)
    assert calls.names == ["corpus", "baseline"]
    assert all(calls.seeds[name] != before[name] for name in before)


def test_another_model_runs_only_what_reads_it(tmp_path: Path, calls: Calls) -> None:
    run(tmp_path / "run", calls)
    run(tmp_path / "run", calls, revision="r2")
    assert calls.names == ["baseline"]


def test_changed_files_outside_run_their_reader_and_what_follows(
    tmp_path: Path, calls: Calls
) -> None:
    run(tmp_path / "run", calls)
    calls.external = 2
    run(tmp_path / "run", calls)
    assert calls.names == ["corpus", "baseline"]


def test_a_touched_output_is_made_again(tmp_path: Path, calls: Calls) -> None:
    result = run(tmp_path / "run", calls)["baseline"]
    (result.output / "out.txt").write_text("forged")
    run(tmp_path / "run", calls)
    assert calls.names == ["baseline"]
    assert (result.output / "out.txt").read_text().startswith("baseline")


def test_a_failed_stage_keeps_its_work_and_the_stages_before_it(
    tmp_path: Path, calls: Calls
) -> None:
    calls.broken.add("baseline")
    with pytest.raises(DataError, match=r"x.jsonl:3: no such file"):
        run(tmp_path / "run", calls)
    calls.broken.clear()
    run(tmp_path / "run", calls)
    assert calls.names == ["baseline"]
    assert "half" in calls.work_seen["baseline"]


def test_work_of_other_settings_is_thrown_away(tmp_path: Path, calls: Calls) -> None:
    calls.broken.add("baseline")
    with pytest.raises(DataError):
        run(tmp_path / "run", calls)
    calls.broken.clear()
    run(tmp_path / "run", calls, revision="r2")
    assert "half" not in calls.work_seen["baseline"]


def test_a_folder_of_something_else_is_refused_untouched(tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds files that no run of ours made"):
        run(tmp_path, calls)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ConfigError, match="is a file; --out needs a folder"):
        run(tmp_path / "notes.txt", calls)


def test_the_run_folder_says_what_was_run_and_on_what(tmp_path: Path, calls: Calls) -> None:
    run(tmp_path / "run", calls)
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["packages"]["numpy"]
    assert (tmp_path / "run" / "recipe.resolved.yaml").read_text().startswith("name: small")
    stage = json.loads((tmp_path / "run" / "stages" / "corpus" / "stage.json").read_text())
    assert stage["facts"] == {"written": 1}
    assert list(stage["files"]) == ["out.txt"]


def test_a_folder_that_another_process_works_in_is_refused(tmp_path: Path, calls: Calls) -> None:
    import fcntl

    run(tmp_path / "run", calls)
    with open(tmp_path / "run" / ".lock", "a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process is at work in this run folder"):
            run(tmp_path / "run", calls)
    run(tmp_path / "run", calls)
