"""A small repository of real code and a tiny random model: the shipped commands in seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

PACKAGES = ("asyncio", "concurrent", "email", "http", "importlib", "json", "logging", "urllib")
PACKAGES += ("unittest", "xml", "multiprocessing", "wsgiref")

Gte = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve packages of the standard library, laid out like somebody's repository."""
    root = tmp_path_factory.mktemp("data") / "repository"
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in PACKAGES:
        shutil.copytree(
            library / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "test*")
        )
    (root / "README.md").write_text(
        "# Sample\n\nPackages of the standard library, as somebody's repository.\n",
        encoding="utf-8",
    )
    return root


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, minilm_folder: Path) -> Path:
    """A BERT of two layers and 32 dimensions with random weights and MiniLM's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from opengte.models.weights import load_encoder, save_encoder

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "bert"
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    target = folder.parent / "model"
    save_encoder(load_encoder(folder, max_tokens=64, pooling="mean", normalise=True), target)
    return target


def command_line(arguments: Sequence[str | Path]) -> list[str]:
    """The shipped command, run by this interpreter."""
    return [sys.executable, "-m", "opengte", *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread, no hub, no terminal."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


@pytest.fixture(scope="session")
def start_gte() -> Callable[..., subprocess.Popen[bytes]]:
    """Start ``gte`` in a process group of its own, to be killed whole."""

    def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command_line(arguments),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    return start


@pytest.fixture(scope="session")
def gte() -> Gte:
    """Run ``gte`` to its end as a subprocess."""

    def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command_line(arguments), capture_output=True, text=True, env=environment()
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
