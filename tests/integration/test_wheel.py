"""What ``pip install`` puts on a disk: all of the package, its recipes found by name."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("hatchling", reason="builds the wheel; part of the extra [test]")

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/opengte"
RECIPES = {file.name: file for file in sorted((PACKAGE / "recipes").glob("*.yaml"))}
PROGRAM = """
import opengte
from opengte.pipeline.recipe import bundled_recipes, load_recipe
print(opengte.__file__)
for name in bundled_recipes():
    print(load_recipe(name).name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("target")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    return target


def run(installed: Path, *arguments: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=installed.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_wheel_holds_every_recipe_as_it_is_in_the_repository(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {
            Path(name).name: archive.read(name)
            for name in archive.namelist()
            if name.startswith("opengte/recipes/") and name.endswith(".yaml")
        }
    assert len(RECIPES) > 50
    assert held == {name: file.read_bytes() for name, file in RECIPES.items()}


def test_a_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    files = {
        f"opengte/{file.relative_to(PACKAGE).as_posix()}"
        for file in PACKAGE.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("opengte/")}
    assert held == files


def test_recipes_load_by_name_from_an_installed_wheel(installed: Path) -> None:
    where, *names = run(installed, "-c", PROGRAM)
    assert Path(where).is_relative_to(installed)
    assert names == [name.removesuffix(".yaml") for name in RECIPES]


def test_the_command_lists_them_from_an_installed_wheel(installed: Path) -> None:
    lines = run(installed, "-m", "opengte", "recipe", "list")
    assert [line.split()[0] for line in lines] == [n.removesuffix(".yaml") for n in RECIPES]
