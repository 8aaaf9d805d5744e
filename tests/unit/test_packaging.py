"""What a user installs: pins that cover what the recipes read, and rooms that stay light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from opengte.pipeline.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
TORCH_FREE = (
    "opengte",
    "opengte.errors",
    "opengte.records",
    "opengte.contracts",
    "opengte.atomic",
    "opengte.model_folder",
    "opengte.http_client",
    "opengte.text.tokenizer",
    "opengte.metrics.ranking",
    "opengte.metrics.bootstrap",
    "opengte.data.readers",
    "opengte.data.mixture",
    "opengte.data.near_duplicates",
    "opengte.data.writers",
    "opengte.runtime.onnx",
    "opengte.runtime.hashed",
    "opengte.search.searcher",
    "opengte.search.bm25",
    "opengte.llm",
    "opengte.mining.mine",
    "opengte.mining.teachers",
    "opengte.synthesis",
    "opengte.evaluation.evaluate",
    "opengte.evaluation.load_task",
    "opengte.loading",
    "opengte.cli.main",
    "opengte.cli.search",
    "opengte.cli.evaluate",
)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    rows = [line.split("==") for line in lines if "==" in line]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in rows}


def test_torch_is_pinned_to_the_tested_build() -> None:
    assert pins()["torch"] == "2.13.0"


def test_every_package_of_the_embedded_corpus_is_pinned() -> None:
    packages = load_recipe("quickstart").stages["corpus"].packages
    assert not [name for name in packages if re.sub(r"[-_.]+", "-", name).lower() not in pins()]


@pytest.mark.parametrize("extra", ["", "train", "quickstart", "test"])
def test_every_direct_dependency_is_pinned(extra: str) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["dependencies"] if not extra else project["optional-dependencies"][extra]
    names = [re.split(r"[\[<>=~ ;]", spec)[0] for spec in listed]
    names = [re.sub(r"[-_.]+", "-", name).lower() for name in names if name != "opengte"]
    assert not [name for name in names if name not in pins()]


def test_torch_free_rooms_leave_torch_out() -> None:
    program = (
        "import importlib, sys\n"
        f"for name in {TORCH_FREE!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {sorted(heavy)}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_is_light() -> None:
    program = "import sys, opengte; assert 'numpy' not in sys.modules, 'numpy is imported'"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_extra_that_an_error_names_exists() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    sources = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r'MissingExtraError\([^)]*extra="([a-z_]+)"', sources))
    assert named
    assert not named - set(extras)
