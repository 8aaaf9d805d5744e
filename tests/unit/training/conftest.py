"""A real but tiny encoder, and batches from two sources with different columns.

They stand in ``tiny_training.py``, which the programs that tests start import as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_training import WordBatches, make_encoder

from opengte.models.encoder import Encoder


@pytest.fixture(scope="session")
def new_encoder() -> Callable[..., Encoder]:
    return make_encoder


@pytest.fixture(scope="session")
def new_batches() -> Callable[..., WordBatches]:
    return WordBatches
