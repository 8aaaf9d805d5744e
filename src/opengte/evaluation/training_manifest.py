"""What a model was trained on, as numbers that lie beside it: ``training_manifest.json``.

Texts are compared without case, punctuation and white space. A manifest keeps one 64-bit number a
text, so that it can lie beside a model without holding the data. What a start model says about
itself is carried over; a start model that says nothing is named, for then nobody knows what the
weights have seen before.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file, write_json
from opengte.errors import DataError
from opengte.evaluation.results import read_json
from opengte.records import Pair

TRAINING_MANIFEST = "training_manifest.json"

_SPLITS = {"train", "training", "test", "dev", "val", "validation"}


def _no_numbers() -> NDArray[np.uint64]:
    return np.empty(0, dtype=np.uint64)


@dataclass(frozen=True)
class TrainingManifest:
    """What a model was trained on.

    Attributes:
        datasets: names of the sets, as their authors call them.
        texts: uint64, sorted: numbers of all texts.
        pairs: uint64, sorted: numbers of all (query, positive) pairs.
        unknown_starts: models that training began from and that say nothing of what they had
            learned before; whatever is not found here, they may have seen.
        unnumbered: sources of too many texts to keep a number of each; their names stand in
            ``datasets``.
    """

    datasets: frozenset[str] = frozenset()
    texts: NDArray[np.uint64] = field(default_factory=_no_numbers)
    pairs: NDArray[np.uint64] = field(default_factory=_no_numbers)
    unknown_starts: frozenset[str] = frozenset()
    unnumbered: frozenset[str] = frozenset()

    @classmethod
    def from_pairs(cls, pairs: Iterable[Pair], *, datasets: Iterable[str] = ()) -> TrainingManifest:
        """Number the texts of a training set, read once; 24 bytes a pair."""
        texts, both = array("Q"), array("Q")
        for pair in pairs:
            query, positive = text_number(pair.query), text_number(pair.positive)
            texts.extend((query, positive, *map(text_number, pair.negatives)))
            both.append(_pair_number(query, positive))
        return cls(frozenset(datasets), _sorted(texts), _sorted(both))

    @classmethod
    def from_texts(cls, texts: Iterable[str], *, datasets: Iterable[str] = ()) -> TrainingManifest:
        """Number texts that were learned from one by one, read once; 8 bytes a text."""
        return cls(frozenset(datasets), _sorted(array("Q", map(text_number, texts))))

    @classmethod
    def union(cls, manifests: Sequence[TrainingManifest]) -> TrainingManifest:
        """Everything that any of them names."""
        return cls(
            frozenset().union(*(manifest.datasets for manifest in manifests)),
            np.unique(np.concatenate([manifest.texts for manifest in manifests])),
            np.unique(np.concatenate([manifest.pairs for manifest in manifests])),
            frozenset().union(*(manifest.unknown_starts for manifest in manifests)),
            frozenset().union(*(manifest.unnumbered for manifest in manifests)),
        )

    @classmethod
    def of_model(cls, folder: str | Path, *, name: str) -> TrainingManifest:
        """What a model's folder says; without a manifest, that ``name`` is an unknown start.

        Raises:
            DataError: its manifest is damaged.
        """
        if (Path(folder) / TRAINING_MANIFEST).is_file():
            return cls.load(folder)
        # Another machine's path says nothing, and may say too much.
        known_as = Path(name).resolve().name if Path(name).is_dir() else name
        return cls(unknown_starts=frozenset({known_as}))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Start models and sources whose texts cannot be looked for here."""
        return tuple(sorted(self.unknown_starts | self.unnumbered))

    @property
    def says_something(self) -> bool:
        """Whether any training is known, or that there was none."""
        return bool(self.datasets or len(self.texts) or not self.unknown_starts)

    def save(self, folder: str | Path) -> None:
        """Write it below ``folder`` as JSON and two arrays."""
        folder = Path(folder)
        for name in ("texts", "pairs"):
            with atomic_file(folder / f"training_{name}.npy") as stream:
                np.save(stream, getattr(self, name), allow_pickle=False)
        # Last: a manifest that stands is whole.
        facts = {
            "datasets": sorted(self.datasets),
            "unknown_starts": sorted(self.unknown_starts),
            "unnumbered": sorted(self.unnumbered),
            "num_texts": len(self.texts),
            "num_pairs": len(self.pairs),
        }
        write_json(folder / TRAINING_MANIFEST, facts)

    def save_if_known(self, folder: str | Path) -> None:
        """Write it, unless it would only say that nothing is known."""
        if self.says_something:
            self.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> TrainingManifest:
        """Read what ``save`` wrote.

        Raises:
            DataError: a file is absent or damaged.
        """
        folder = Path(folder)
        path = folder / TRAINING_MANIFEST
        try:
            facts = read_json(path)
            manifest = cls(
                datasets=frozenset(map(str, facts["datasets"])),
                unknown_starts=frozenset(map(str, facts.get("unknown_starts", ()))),
                unnumbered=frozenset(map(str, facts.get("unnumbered", ()))),
            )
            arrays = {}
            for name in ("texts", "pairs"):
                path = folder / f"training_{name}.npy"
                arrays[name] = np.load(path, allow_pickle=False).astype(np.uint64)
        except (KeyError, TypeError, AttributeError, OSError, ValueError, EOFError) as error:
            raise DataError("this training manifest cannot be read", path=path) from error
        return replace(manifest, **arrays)

    def has_texts(self, texts: Iterable[str]) -> NDArray[np.bool_]:
        """Which of ``texts`` were trained on."""
        return _member(self.texts, [text_number(text) for text in texts])

    def has_pairs(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.bool_]:
        """Which of ``pairs`` were trained on, either way round."""
        numbers = [(text_number(a), text_number(b)) for a, b in pairs]
        forward = _member(self.pairs, [_pair_number(a, b) for a, b in numbers])
        return forward | _member(self.pairs, [_pair_number(b, a) for a, b in numbers])


def dataset_name(path: str | Path) -> str:
    """What a file or folder of training data is called; a file named like a split: its folder."""
    path = Path(path)
    stem = path.name if path.is_dir() else path.name.partition(".")[0]
    return path.resolve().parent.name if stem.lower() in _SPLITS else stem


def plain_text(text: str) -> str:
    """A text without case, punctuation and white space."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


def text_number(text: str) -> int:
    """64 bits of a text without case, punctuation and white space."""
    digest = hashlib.blake2b(plain_text(text).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _pair_number(query: int, positive: int) -> int:
    both = query.to_bytes(8, "little") + positive.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(both, digest_size=8).digest(), "little")


def _sorted(numbers: array[int]) -> NDArray[np.uint64]:
    return np.unique(np.array(numbers, dtype=np.uint64))


def _member(known: NDArray[np.uint64], numbers: list[int]) -> NDArray[Any]:
    wanted = np.array(numbers, dtype=np.uint64)
    if not len(known) or not len(wanted):
        return np.zeros(len(wanted), dtype=bool)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found: NDArray[Any] = known[places] == wanted
    return found
