"""A recipe file is typed, and every mistake in it is named with its file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from opengte.errors import ConfigError
from opengte.pipeline.recipe import (
    Recipe,
    bundled_recipes,
    load_recipe,
    merge_values,
)

SMALL = """\
name: small
backbone:
  model: somewhere
stages:
  corpus:
    kind: corpus
    standard_library: true
  train:
    kind: contrastive
    model: base
    pairs: corpus
    training:
      learning_rate: 2e-5
"""


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def error_of(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(folder), "")


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL))
    assert recipe.stages["train"].training.learning_rate == 2e-5


def test_unknown_key_is_refused_with_the_nearest_one_and_its_line(tmp_path: Path) -> None:
    message = error_of(tmp_path, SMALL.replace("learning_rate", "learning_rat"))
    assert message.startswith("/r.yaml:13: unknown key 'stages.train.training.learning_rat'")
    assert "did you mean 'learning_rate'?" in message


def test_unknown_key_of_a_stage_and_of_the_recipe(tmp_path: Path) -> None:
    message = error_of(
        tmp_path, SMALL.replace("    pairs: corpus", "    pairs: corpus\n    los: 1")
    )
    assert "unknown key 'stages.train.los'; did you mean 'loss'?" in message
    message = error_of(tmp_path, SMALL + "sed: 3\n")
    assert "/r.yaml:14: unknown key 'sed'; did you mean 'seed'?" in message


def test_wrong_type_names_key_given_and_expected(tmp_path: Path) -> None:
    message = error_of(tmp_path, SMALL.replace("2e-5", "fast"))
    assert "/r.yaml:13: key 'stages.train.training.learning_rate'" in message
    assert "valid number" in message
    assert "got 'fast'" in message


def test_a_room_refuses_its_own_contradictions_with_the_line(tmp_path: Path) -> None:
    message = error_of(tmp_path, SMALL.replace("2e-5", "-1"))
    assert "r.yaml:12" in message or "r.yaml:13" in message
    assert "learning_rate must be > 0, got -1" in message


def test_a_stage_can_only_name_stages_before_it(tmp_path: Path) -> None:
    message = error_of(tmp_path, SMALL.replace("pairs: corpus", "pairs: mined"))
    assert "no stage 'mined' runs before 'train'; expected one of base, corpus" in message


def test_a_stage_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    message = error_of(tmp_path, SMALL.replace("model: base", "model: corpus"))
    assert (
        "'corpus' is a corpus stage; expected one of kind backbone, contrastive, merge" in message
    )


def test_double_key_and_bad_yaml_name_their_line(tmp_path: Path) -> None:
    assert "/r.yaml:14: key 'name' stands here a second time" in error_of(
        tmp_path, SMALL + "name: x"
    )
    assert "/r.yaml:2: not valid YAML" in error_of(tmp_path, "name: x\n  seed: [")


def test_python_objects_in_yaml_are_refused(tmp_path: Path) -> None:
    message = error_of(tmp_path, SMALL.replace("somewhere", "!!python/object/apply:os.getcwd []"))
    assert "not a plain value" in message or "key 'backbone.model'" in message


def test_extends_merges_key_by_key_and_null_removes_a_stage(tmp_path: Path) -> None:
    write(tmp_path, SMALL, "parent.yaml")
    child = write(
        tmp_path,
        "extends: parent.yaml\nname: child\nstages:\n  train:\n    training: {seed: 3}\n",
    )
    recipe = load_recipe(child)
    assert recipe.stages["train"].training.learning_rate == 2e-5
    assert recipe.stages["train"].training.seed == 3
    child = write(tmp_path, "extends: parent.yaml\nname: child\nstages: {train: null}\n")
    assert list(load_recipe(child).stages) == ["corpus"]


def test_a_recipe_cannot_extend_itself(tmp_path: Path) -> None:
    assert "cannot extend itself" in error_of(tmp_path, "extends: r.yaml\nname: x\n")


def test_another_kind_replaces_a_mapping_whole() -> None:
    older = {"loss": {"kind": "improved_contrastive", "count_positive_twice": True}}
    newer = {"loss": {"kind": "info_nce"}}
    assert merge_values(older, newer) == newer


def test_a_star_forgets_what_the_parent_put_there() -> None:
    older = {"sources": {"a": {"path": "x"}, "b": {}}, "kept": 1}
    newer = {"sources": {"*": None, "c": {}}, "fresh": {"*": None, "d": 2}}
    assert merge_values(older, newer) == {"sources": {"c": {}}, "kept": 1, "fresh": {"d": 2}}


def test_a_stage_that_a_child_adds_runs_before_the_first_that_names_it(tmp_path: Path) -> None:
    evaluate = "kind: evaluate, model: train"
    write(tmp_path, f"{SMALL}  final: {{{evaluate}}}\n", "parent.yaml")
    child = write(
        tmp_path,
        "extends: parent.yaml\nname: child\nstages:\n"
        "  train: {pairs: mine}\n"
        "  more: {kind: mine, model: base, pairs: corpus}\n"
        "  mine: {kind: mine, model: base, pairs: more}\n"
        "  again: {kind: evaluate, model: train}\n"
        "  last: {kind: evaluate, model: train}\n",
    )
    order = list(load_recipe(child).stages)
    assert order == ["corpus", "more", "mine", "train", "final", "again", "last"]


def test_set_changes_one_key(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    recipe = load_recipe(path, overrides=["stages.train.training.learning_rate=1e-3", "seed=4"])
    assert recipe.stages["train"].training.learning_rate == 1e-3
    assert recipe.seed == 4
    with pytest.raises(ConfigError, match="unknown key 'sede'; did you mean 'seed'"):
        load_recipe(path, overrides=["sede=4"])
    with pytest.raises(ConfigError, match=r"--set expects key.path=value, got 'seed'"):
        load_recipe(path, overrides=["seed"])


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match="no recipe named 'quickstrat'; did you mean 'quickstart'"
    ):
        load_recipe("quickstrat")


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_a_resolved_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    text = recipe.to_yaml()
    assert load_recipe(write(tmp_path, text)) == recipe


def test_every_bundled_recipe_is_a_recipe() -> None:
    assert "quickstart" in bundled_recipes()
    assert isinstance(load_recipe("quickstart"), Recipe)
