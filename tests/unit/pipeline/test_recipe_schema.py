"""The JSON Schema takes the recipe files that the loader takes, and refuses those it refuses."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.pipeline.recipe import bundled_recipes, load_recipe
from opengte.pipeline.recipe_schema import recipe_schema
from opengte.pipeline.yaml_file import parse_yaml, read_yaml

FILES = bundled_recipes()
WHOLE = """\
name: whole
backbone: {model: somewhere, shape: {"*": null, model_type: bert}}
stages:
  corpus: {kind: corpus, standard_library: true}
  mine: null
  train:
    kind: contrastive
    model: base
    pairs: corpus
    loss: {kind: info_nce, temperature: 0.05}
    mixture: {batch_size: 8, length_table: [{max_tokens: 64, batch_size: 8}]}
"""
CHILD = """\
extends: gte-base
name: child
stages:
  pretrain:
    sources: {"*": null, mine: {path: pairs.jsonl}}
    training: {num_steps: 10}
  finetune: null
  final: {model: pretrain}
  export: {model: pretrain}
"""
REFUSED = {
    "an unknown key": WHOLE + "sed: 1\n",
    "an unknown key of a stage": WHOLE.replace("pairs: corpus", "pair: corpus"),
    "an unknown key of a loss": WHOLE.replace("temperature", "temprature"),
    "an unknown kind": WHOLE.replace("kind: contrastive", "kind: contrast"),
    "no kind": WHOLE.replace("kind: corpus, ", ""),
    "no backbone": WHOLE.replace("backbone", "extends: null #"),
    "a wrong type": WHOLE.replace("batch_size: 8,", "batch_size: many,"),
    "a stage called base": WHOLE.replace("  corpus:", "  base:"),
    "a stage with a space in its name": WHOLE.replace("  corpus:", "  my corpus:"),
    "no stage but null": WHOLE[: WHOLE.index("  corpus")] + "  train: null\n",
    "a star that is not null": WHOLE.replace("train:\n", 'train:\n    "*": 1\n'),
    "an item without what it needs": WHOLE.replace(", batch_size: 8}]", "}]"),
    "a list of extends": WHOLE + "extends: [gte-base]\n",
    "an unknown key in a child": CHILD + "sed: 1\n",
    "an unknown key of a child's stage": CHILD.replace("num_steps", "num_step"),
    "a wrong type in a child": CHILD.replace("10", "[10]"),
    "null in a child where a value must be": CHILD.replace("{num_steps: 10}", "null"),
    "keys of two kinds in a child": CHILD.replace("final: {", "final: {benchmark: x, loss: {}, "),
    "an item in a child without what it needs": CHILD.replace(
        "training: {num_steps: 10}", "mixture: {length_table: [{max_tokens: 64}]}"
    ),
}


@cache
def validator() -> jsonschema.Draft202012Validator:
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def fits(values: dict[str, Any]) -> bool:
    return validator().is_valid(values)


def loads(text: str, folder: Path) -> bool:
    file = folder / "recipe.yaml"
    file.write_text(text, "utf-8")
    try:
        load_recipe(file)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_recipe_file_fits_the_schema_as_it_is_written_and_resolved(name: str) -> None:
    validator().validate(read_yaml(FILES[name])[0])
    validator().validate(yaml.safe_load(load_recipe(name).to_yaml()))


@pytest.mark.parametrize("text", [WHOLE, CHILD])
def test_null_stages_and_stars_fit_and_load(text: str, tmp_path: Path) -> None:
    values, _ = parse_yaml(text, tmp_path)
    validator().validate(values)
    assert loads(text, tmp_path)


@pytest.mark.parametrize("fault", REFUSED)
def test_what_the_loader_refuses_the_schema_refuses(fault: str, tmp_path: Path) -> None:
    text = REFUSED[fault]
    assert text not in (WHOLE, CHILD)
    assert not loads(text, tmp_path)
    assert not fits(parse_yaml(text, tmp_path)[0])


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from(sorted(FILES)), data=st.data())
def test_a_key_put_anywhere_is_taken_by_both_or_by_none(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    values, _ = read_yaml(FILES[name])
    where = data.draw(st.sampled_from(list(mappings(values))))
    where["unheard_of"] = data.draw(st.sampled_from([["x"], 7, None, {"*": None}]))
    assert fits(values) == loads(yaml.safe_dump(values, sort_keys=False), tmp_path)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from(sorted(FILES)), data=st.data())
def test_a_star_in_a_recipe_that_stands_alone_changes_nothing(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    values = yaml.safe_load(recipe.to_yaml())
    data.draw(st.sampled_from(list(mappings(values))))["*"] = None
    assert fits(values)
    file = tmp_path / "starred.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), "utf-8")
    assert load_recipe(file) == recipe


def mappings(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for inner in value for found in mappings(inner)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for inner in value.values() for found in mappings(inner))]
