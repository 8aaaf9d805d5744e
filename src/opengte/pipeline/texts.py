"""Sources of plain texts -> batches of them, and a few kept aside for measuring.

A text is held as a row whose other side is its number, so that texts go the way of pairs: built
into stores, mixed by alpha, drawn by arithmetic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from opengte.data.build import build_store
from opengte.data.mixture import Mixture, MixtureConfig
from opengte.data.sources import Source
from opengte.data.store import PairStore
from opengte.data.writers import write_pairs
from opengte.errors import ConfigError, DataError
from opengte.pipeline.backbone import read_texts
from opengte.pipeline.files import file_marks, find_data
from opengte.pipeline.pair_sources import is_store
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs.learning import TextLearning
from opengte.records import Pair


@dataclass(frozen=True)
class Texts:
    """What a stage learns from, and what it is measured on.

    Attributes:
        mixture: batches whose queries are texts.
        num_texts: by source.
        held_out: texts that no batch holds.
    """

    mixture: Mixture
    num_texts: dict[str, int]
    held_out: list[str]


def open_texts(config: TextLearning, context: StageContext) -> Texts:
    """Read every source once into a store below the work folder; repeated texts are left out.

    Raises:
        ConfigError: a source has no path.
        DataError: too few texts to learn from and to measure with.
    """
    sources = []
    held_out: list[str] = []
    share = -(-config.held_out // len(config.texts))
    for name, source in config.texts.items():
        if source.path is None:
            raise ConfigError(
                f"stages.{context.name}.texts.{name}.path is not set: the recipe can be planned "
                "but not run; give documents, pairs or text files"
            )
        folder = context.work / "texts" / name
        if not is_store(folder):
            rows = folder.parent / f"{name}.jsonl"
            write_pairs(rows, _rows(str(find_data(source.path)), name))
            build_store([rows], folder, num_workers=1)
            rows.unlink()
        store = PairStore(folder)
        opened = store.source(store.names[0])
        number = len(opened.rows)
        if number <= share:
            raise DataError(
                f"source {name!r} holds {number} distinct texts, of which {share} are held out; "
                "give more texts, or lower held_out"
            )
        # Evenly from all of it: files are often sorted.
        kept = [place * number // share for place in range(share)]
        held_out += [pair.query for pair in opened.rows.pairs(np.asarray(kept, np.int64))]
        rest = sorted(set(range(number)) - set(kept))
        sources.append(
            Source(
                name=name,
                rows=opened.rows,
                task="texts",
                weight=source.weight,
                fingerprint=f"{opened.fingerprint} without {share}",
                matching=np.asarray(rest, np.uint32),
            )
        )
    mixture = Mixture(
        sources,
        MixtureConfig(
            batch_size=config.batch_size, mode="mixed", alpha=config.alpha, seed=context.seed
        ),
    )
    counts = {
        source.name: len(source.matching) for source in sources if source.matching is not None
    }
    return Texts(mixture, counts, held_out[: config.held_out])


def external_inputs(config: TextLearning) -> Any:
    """What changes when a file of the texts does."""
    return file_marks(source.path for source in config.texts.values())


def _rows(path: str, name: str) -> Iterator[Pair]:
    seen: set[bytes] = set()
    for text in read_texts([path]):
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if text.strip() and key not in seen:
            seen.add(key)
            yield Pair(query=text, positive=f"text {len(seen)} of {name}")
