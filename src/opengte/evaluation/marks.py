"""Training texts and a task -> whether the task's score is zero-shot.

* ``leaked``: something that is scored stood in the training data: a test pair with both its sides,
  or a query long enough not to be there by chance.
* ``in-domain train``: the task's own train split was trained on, or texts of its corpus were.
* ``zero-shot``: neither.

Texts are compared without case, punctuation and white space. A manifest keeps one 64-bit number a
text, so that it can lie beside a model without holding the data.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file, write_json
from opengte.errors import DataError
from opengte.evaluation.results import read_json
from opengte.evaluation.tasks import (
    BitextTask,
    ClassificationTask,
    ClusteringTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    SummarisationTask,
    Task,
)
from opengte.records import Pair

ZERO_SHOT, IN_DOMAIN, LEAKED = "zero-shot", "in-domain train", "leaked"

_LONG = 30  # letters; a text this long is not in two sets by chance
_LONG_UNSPACED = 12  # the same for scripts whose letters are words
_IN_DOMAIN_SHARE = 0.05  # of a corpus that was trained on
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True)
class TrainingManifest:
    """What a model was trained on.

    Attributes:
        datasets: names of the sets, as their authors call them.
        texts: uint64, sorted: numbers of all texts.
        pairs: uint64, sorted: numbers of all (query, positive) pairs.
    """

    datasets: frozenset[str] = frozenset()
    texts: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    pairs: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))

    @classmethod
    def from_pairs(cls, pairs: Iterable[Pair], *, datasets: Iterable[str] = ()) -> TrainingManifest:
        """Number the texts of a training set, read once; 24 bytes a pair."""
        texts, both = [], []
        for pair in pairs:
            query, positive = text_number(pair.query), text_number(pair.positive)
            texts += [query, positive, *map(text_number, pair.negatives)]
            both.append(_pair_number(query, positive))
        return cls(frozenset(datasets), _sorted(texts), _sorted(both))

    @classmethod
    def union(cls, manifests: Sequence[TrainingManifest]) -> TrainingManifest:
        """Everything that any of them names."""
        return cls(
            frozenset().union(*(manifest.datasets for manifest in manifests)),
            np.unique(np.concatenate([manifest.texts for manifest in manifests])),
            np.unique(np.concatenate([manifest.pairs for manifest in manifests])),
        )

    def save(self, folder: str | Path) -> None:
        """Write it below ``folder`` as JSON and two arrays."""
        folder = Path(folder)
        write_json(folder / "training_manifest.json", {"datasets": sorted(self.datasets)})
        for name in ("texts", "pairs"):
            with atomic_file(folder / f"training_{name}.npy") as stream:
                np.save(stream, getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: str | Path) -> TrainingManifest:
        """Read what ``save`` wrote.

        Raises:
            DataError: a file is absent or damaged.
        """
        folder = Path(folder)
        path = folder / "training_manifest.json"
        try:
            datasets = frozenset(map(str, read_json(path)["datasets"]))
            arrays = []
            for name in ("texts", "pairs"):
                path = folder / f"training_{name}.npy"
                arrays.append(np.load(path, allow_pickle=False).astype(np.uint64))
        except (KeyError, TypeError, OSError, ValueError, EOFError) as error:
            raise DataError("this training manifest cannot be read", path=path) from error
        return cls(datasets, *arrays)

    def has_texts(self, texts: Iterable[str]) -> NDArray[np.bool_]:
        """Which of ``texts`` were trained on."""
        return _member(self.texts, [text_number(text) for text in texts])

    def has_pairs(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.bool_]:
        """Which of ``pairs`` were trained on, either way round."""
        numbers = [(text_number(a), text_number(b)) for a, b in pairs]
        forward = _member(self.pairs, [_pair_number(a, b) for a, b in numbers])
        return forward | _member(self.pairs, [_pair_number(b, a) for a, b in numbers])


def mark_task(task: Task, manifest: TrainingManifest) -> tuple[str, dict[str, int]]:
    """The mark of a task, and what spoke for it: numbers of texts by reason.

    Args:
        task: what is scored.
        manifest: what the model was trained on.
    """
    pairs = list(_scored_pairs(task))
    queries = [text for text in _scored_texts(task) if _is_long(text)]
    found = {
        "scored pairs in the training data": int(manifest.has_pairs(pairs).sum()),
        "scored texts in the training data": int(manifest.has_texts(queries).sum()),
    }
    reasons = {reason: count for reason, count in found.items() if count}
    if reasons:
        return LEAKED, reasons
    corpus = [text for text in _background_texts(task) if _is_long(text)]
    seen = int(manifest.has_texts(corpus).sum())
    if seen:
        reasons["background texts in the training data"] = seen
    named = _plain(task.name) in {_plain(_without_split(name)) for name in manifest.datasets}
    if named or (corpus and seen / len(corpus) >= _IN_DOMAIN_SHARE):
        return IN_DOMAIN, reasons
    return ZERO_SHOT, reasons


def text_number(text: str) -> int:
    """64 bits of a text without case, punctuation and white space."""
    digest = hashlib.blake2b(_plain(text).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


def _without_split(name: str) -> str:
    return re.sub(r"[-_/ ](train|training|dev|val|validation)$", "", name, flags=re.IGNORECASE)


def _is_long(text: str) -> bool:
    plain = _plain(text)
    return len(plain) >= (_LONG_UNSPACED if _UNSPACED.search(plain) else _LONG)


def _scored_pairs(task: Task) -> Iterator[tuple[str, str]]:
    if isinstance(task, RetrievalTask):
        texts = {document.id: document for document in task.corpus}
        for query in task.queries:
            for name, grade in task.qrels[query.id].items():
                if grade > 0:
                    yield query.text, texts[name].text
                    yield query.text, texts[name].full_text
    elif isinstance(task, RerankingTask):
        for asked, texts_of, labels in zip(task.queries, task.candidates, task.labels, strict=True):
            yield from ((asked, t) for t, label in zip(texts_of, labels, strict=True) if label > 0)
    elif isinstance(task, StsTask | PairClassificationTask):
        yield from zip(task.sentences1, task.sentences2, strict=True)
    elif isinstance(task, BitextTask):
        for sources, targets in task.subsets.values():
            yield from zip(sources, targets, strict=True)


def _scored_texts(task: Task) -> Iterator[str]:
    if isinstance(task, RetrievalTask):
        yield from (query.text for query in task.queries)
    elif isinstance(task, RerankingTask):
        yield from task.queries
    elif isinstance(task, ClassificationTask | ClusteringTask):
        yield from task.texts
    elif isinstance(task, SummarisationTask):
        yield from (text for texts in task.machine for text in texts)


def _background_texts(task: Task) -> Iterator[str]:
    """Texts that are looked at but not scored themselves."""
    if isinstance(task, RetrievalTask):
        yield from (document.text for document in task.corpus)
    elif isinstance(task, RerankingTask):
        yield from (text for texts in task.candidates for text in texts)
    elif isinstance(task, StsTask | PairClassificationTask):
        yield from task.sentences1
        yield from task.sentences2
    elif isinstance(task, ClassificationTask):
        yield from task.train_texts
    elif isinstance(task, BitextTask):
        for sources, targets in task.subsets.values():
            yield from sources
            yield from targets


def _pair_number(query: int, positive: int) -> int:
    both = query.to_bytes(8, "little") + positive.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(both, digest_size=8).digest(), "little")


def _sorted(numbers: list[int]) -> NDArray[np.uint64]:
    return np.unique(np.array(numbers, dtype=np.uint64))


def _member(known: NDArray[np.uint64], numbers: list[int]) -> NDArray[Any]:
    wanted = np.array(numbers, dtype=np.uint64)
    if not len(known) or not len(wanted):
        return np.zeros(len(wanted), dtype=bool)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found: NDArray[Any] = known[places] == wanted
    return found
