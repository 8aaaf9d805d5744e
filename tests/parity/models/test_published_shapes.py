"""The shapes that recipes state are those of the released models: sizes here, names with a hub.

Built on the ``meta`` device, so that seven billion parameters cost nothing. Weight maps that could
be read in public are committed (``test_weight_maps.py``); ``network`` tests compare the others.
"""

from __future__ import annotations

import json

import pytest

from opengte.models.architectures import clean_config
from opengte.models.planning import weight_shapes
from opengte.pipeline.plan import make_plan
from opengte.pipeline.recipe import bundled_recipes, load_recipe

PUBLISHED_MILLIONS = {
    "gte-small": (33.4, "model card gte-small"),
    "gte-base": (109.5, "model card gte-base"),
    "gte-large": (335.1, "model card gte-large"),
    "gte-roberta-base": (124.6, "model card roberta-base"),
    "mgte-mlm": (304, "mGTE, Table 8"),
    "mgte-embed": (305, "model card gte-multilingual-base"),
    "gte-en-v1.5": (137, "model card gte-base-en-v1.5"),
    "gte-modernbert": (149, "model card gte-modernbert-base"),
    "gte-qwen2": (7070, "mteb's registry; without the output words"),
    "qwen3-embedding": (596, "model card Qwen3-Embedding-0.6B"),
    "nv-embed-v2": (7851, "model card NV-Embed-v2"),
    "e5-mistral": (7111, "model card e5-mistral-7b-instruct"),
    "linq-embed-mistral": (7111, "model card Linq-Embed-Mistral"),
    "conan-v1": (326, "Conan, section 4.1"),
    "xiaobu-v2": (326, "model card xiaobu-embedding-v2"),
    "instructor": (335, "INSTRUCTOR, section 2.1"),
    "cpt-text": (300, "cpt-text, Figure 1"),
    "bge": (109, "model card bge-base-en-v1.5"),
    "gpl": (66, "DistilBERT, Table 3"),
}
PREFIXES = ("bert.", "roberta.", "distilbert.", "model.", "new.")
WITHOUT_WORDS = ("cpt-text",)
RELEASED = sorted(
    name
    for name in bundled_recipes()
    if not name.endswith("-tiny")
    and name not in ("quickstart", "cpt-text", "cpt-code")
    and load_recipe(name).backbone.shape
)


@pytest.mark.parametrize("name", sorted(PUBLISHED_MILLIONS))
def test_number_of_parameters_is_the_published_one(name: str) -> None:
    published, _ = PUBLISHED_MILLIONS[name]
    recipe = load_recipe(name)
    count = make_plan(recipe).num_parameters
    if name in WITHOUT_WORDS:
        count -= recipe.backbone.shape["vocab_size"] * recipe.backbone.shape["hidden_size"]
    assert count / 1e6 == pytest.approx(published, rel=0.015)


def test_cpt_text_counts_parameters_without_the_words() -> None:
    """ "300M", "1.2B", "6B" are GPT-3's layers and widths (its Table 2.1), 12 squares a layer."""
    assert f"{12 * 24 * 1024**2 / 1e8:.0f}" == "3"
    assert f"{12 * 24 * 2048**2 / 1e9:.1f}" == "1.2"
    assert f"{12 * 32 * 4096**2 / 1e9:.0f}" == "6"
    shape = load_recipe("cpt-text").backbone.shape
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    assert 3 * width * inner == pytest.approx(2 * width * 4 * width, rel=0.003)


@pytest.mark.network
@pytest.mark.parametrize("name", RELEASED)
def test_shape_is_the_released_config_and_names_are_its_weight_map(name: str) -> None:
    from huggingface_hub import get_safetensors_metadata, hf_hub_download

    backbone = load_recipe(name).backbone
    with open(hf_hub_download(backbone.model, "config.json"), encoding="utf-8") as stream:
        released = clean_config(json.load(stream))
    stated = clean_config(backbone.shape)
    assert {key: released.get(key) for key in stated} == stated
    metadata = get_safetensors_metadata(backbone.model)
    found = {
        key.split(".", 1)[1] if key.startswith(PREFIXES) else key:
            tuple(info.shape)
        for file in metadata.files_metadata.values()
        for key, info in file.tensors.items()
    }  # fmt: skip
    ours = weight_shapes(released)
    assert {key: found.get(key) for key in ours} == ours
