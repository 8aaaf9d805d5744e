"""Every recipe's resolved settings and plan, as they were when somebody last looked at them.

A changed setting shows as a changed file. After looking at the difference:

    OPENGTE_WRITE_GOLDEN=1 pytest tests/golden
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from opengte.pipeline.plan import StagePlan, make_plan
from opengte.pipeline.recipe import Recipe, bundled_recipes, load_recipe

FOLDER = Path(__file__).parent / "recipes"
NAMES = sorted(bundled_recipes())
PAPERS = [name for name in NAMES if not name.endswith("-tiny") and name != "quickstart"]
MINILM = Path(__file__).parents[1] / "data/weight_maps/all-MiniLM-L6-v2.json"


def golden_text(recipe: Recipe) -> str:
    """Settings without the defaults of the settings' own classes, then the plan."""
    values = recipe.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    if recipe.name == "quickstart":  # states no shape: its model comes with a package
        shape = json.loads(MINILM.read_text("utf-8"))["config"]
        recipe = load_recipe("quickstart", extra={"backbone": {"shape": shape}})
    if not recipe.backbone.shape:
        return text
    plan = make_plan(recipe)
    lines = [f"# plan: {plan.num_parameters:,} parameters"]
    return text + "\n".join([*lines, *map(plan_line, plan.stages)]) + "\n"


def plan_line(stage: StagePlan) -> str:
    parts = [f"# {stage.name} ({stage.kind}):"]
    for value, unit in (
        (stage.num_rows, "rows"),
        (stage.batch_size, "rows a step"),
        (stage.num_steps, "steps"),
        (stage.max_tokens, "tokens at most"),
        (stage.max_input, "tokens an input"),
        (stage.num_gpus, "GPUs"),
    ):
        if value is not None:
            parts.append(f"{value:,} {unit};")
    if stage.memory_gib is not None:
        parts.append(f"{stage.memory_gib} GiB each;")
    return " ".join([*parts, stage.note]).strip()


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_plan_are_the_ones_last_looked_at(name: str) -> None:
    file = FOLDER / f"{name}.txt"
    found = golden_text(load_recipe(name))
    if os.environ.get("OPENGTE_WRITE_GOLDEN"):
        file.write_text(found, "utf-8")
    assert found == file.read_text("utf-8"), f"{name} has changed; see the module's first lines"


def test_no_golden_file_outlives_its_recipe() -> None:
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(NAMES)


@pytest.mark.parametrize("name", PAPERS)
def test_a_plan_tells_steps_tokens_and_memory_of_every_training_stage(name: str) -> None:
    recipe = load_recipe(name)
    plan = make_plan(recipe)
    assert plan.num_parameters > 10_000_000
    trained = [stage for stage in plan.stages if stage.memory_gib is not None]
    assert trained
    for stage in trained:
        assert stage.num_steps, f"{stage.name}: {stage.note}"
        assert stage.max_tokens
        assert stage.memory_gib
        assert (
            stage.memory_gib <= (recipe.stages[stage.name].hardware or recipe.hardware).memory_gib
        )


def test_a_changed_setting_changes_the_golden_text() -> None:
    changed = load_recipe("gte-base", overrides=["stages.pretrain.loss.temperature=0.02"])
    assert golden_text(changed) != golden_text(load_recipe("gte-base"))
