"""What holds for every recipe that comes with the package, read as text and as settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opengte.pipeline.recipe import bundled_recipes, load_recipe

FILES = bundled_recipes()
SYSTEMS = [
    "gte-small",
    "gte-base",
    "gte-large",
    "gte-roberta-base",
    "gte-mse",
    "gte-nli",
    "mgte-mlm",
    "mgte-embed",
    "mgte-rerank",
    "gte-en-v1.5",
    "gte-modernbert",
    "gte-qwen2",
    "qwen3-embedding",
    "qwen3-reranker",
    "nv-embed-v2",
    "e5-mistral",
    "linq-embed-mistral",
    "conan-v1",
    "xiaobu-v2",
    "instructor",
    "cpt-text",
    "cpt-code",
    "e5",
    "bge",
    "gpl",
    "distill-from-larger",
]


def test_every_system_has_a_recipe_and_a_tiny_one_beside_it() -> None:
    assert set(FILES) == {"quickstart", *SYSTEMS, *(f"{name}-tiny" for name in SYSTEMS)}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_tiny_recipe_extends_its_system_and_keeps_its_stages(name: str) -> None:
    assert f"\nextends: {name}\n" in FILES[f"{name}-tiny"].read_text("utf-8")
    whole, tiny = load_recipe(name), load_recipe(f"{name}-tiny")
    kinds = {stage: config.kind for stage, config in tiny.stages.items()}
    for stage, config in whole.stages.items():
        assert kinds[stage] == config.kind
        for part in ("loss", "form", "rule", "method"):
            if hasattr(config, part):
                ours, theirs = getattr(tiny.stages[stage], part), getattr(config, part)
                assert getattr(ours, "kind", ours) == getattr(theirs, "kind", theirs)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_recipe_is_called_like_its_file_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert 10 <= len(recipe.description) <= 120
    assert FILES[name].read_text("utf-8").startswith("# ")


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_paper_recipe_names_its_paper_and_its_shape(name: str) -> None:
    recipe = load_recipe(name)
    assert re.search(r"arXiv:\d{4}\.\d{5}|card", recipe.reference)
    assert recipe.backbone.shape["model_type"]
    assert recipe.hardware.name


@pytest.mark.parametrize("name", SYSTEMS)
def test_figures_of_training_say_where_they_come_from(name: str) -> None:
    """The values that decide a training: each with a comment on its line, or one above a block."""
    decisive = re.compile(r"^\s+(num_steps|learning_rate|batch_size|temperature): \S")
    unsourced = []
    for number, line in enumerate(FILES[name].read_text("utf-8").splitlines(), start=1):
        if decisive.match(line) and "#" not in line:
            unsourced.append(f"{number}: {line.strip()}")
    if name not in ("gte-qwen2", "distill-from-larger"):  # their first lines say it for all
        assert len(unsourced) <= 4, unsourced


def test_tiny_recipes_read_nothing_but_the_examples() -> None:
    root = Path(__file__).resolve().parents[3]
    for name in SYSTEMS:
        for stage in load_recipe(f"{name}-tiny").stages.values():
            for path in paths_of(stage.model_dump(mode="json")):
                assert path.startswith("examples/data/")
                assert (root / path).exists()


def paths_of(value: object, key: str = "") -> list[str]:
    if isinstance(value, dict):
        return [path for name, inner in value.items() for path in paths_of(inner, name)]
    if isinstance(value, list):
        return [path for inner in value for path in paths_of(inner, key)]
    named = key in ("path", "documents", "data", "tasks") and "/" in str(value)
    return [str(value)] if named else []
