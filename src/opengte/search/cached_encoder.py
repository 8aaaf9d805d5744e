"""An encoder that remembers: every text is embedded once by every model of a folder.

The cache is a folder of numbered ``.npz`` shards, one or more for every call that had something new
to embed, below a name that holds the embedding space and the options: another model has another
folder.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.contracts import Progress, TextEncoder
from opengte.records import Embeddings, EmbeddingSpace, Kind, Truncate
from opengte.search.embedding_shards import check_vectors

TEXTS_PER_SHARD = 8192
"""What is embedded before it is written: so much is lost when a model or its endpoint dies."""


class CachedEncoder(TextEncoder):
    """A ``TextEncoder`` that asks another one only for texts it has not seen.

    Args:
        encoder: asked for new texts.
        folder: where the vectors are kept; may hold those of other encoders.

    Attributes:
        num_embedded: texts that the other one was asked for.
    """

    def __init__(self, encoder: TextEncoder, folder: Path) -> None:
        self._encoder = encoder
        self._folder = folder
        self.num_embedded = 0

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the encoder behind it."""
        return self._encoder.space

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: Truncate = "end",
        progress: Progress | None = None,
    ) -> Embeddings:
        """As ``TextEncoder.embed``; vectors of known texts are read from the folder.

        Raises:
            DataError: the encoder gave another shape, or values that are not finite.
        """
        options = f"{self.space.fingerprint}/{kind}/{prompt}/{dimensions}/{truncate}"
        folder = self._folder / hashlib.sha256(options.encode()).hexdigest()[:16]
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        rows, stored = _read(folder)
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in rows}
        names = list(fresh)
        for begin in range(0, len(names), TEXTS_PER_SHARD):
            part = names[begin : begin + TEXTS_PER_SHARD]
            found = self._encoder.embed(
                [fresh[key] for key in part],
                kind=kind,
                prompt=prompt,
                dimensions=dimensions,
                truncate=truncate,
                progress=_shifted(progress, begin, len(names)),
            )
            check_vectors(found.vectors, len(part), dimensions or self.space.dimensions)
            self.num_embedded += len(part)
            _write(folder, part, found)
            num_rows = sum(len(one.vectors) for one in stored)
            rows.update({key: num_rows + i for i, key in enumerate(part)})
            stored.append(found)
        order = [rows[key] for key in keys]
        return Embeddings(
            vectors=_gather([part.vectors for part in stored], order, self.space, dimensions),
            num_tokens=np.concatenate([part.num_tokens for part in stored])[order]
            if stored
            else np.zeros(0, np.int64),
            truncated=np.concatenate([part.truncated for part in stored])[order]
            if stored
            else np.zeros(0, np.bool_),
        )


def _shifted(progress: Progress | None, begin: int, total: int) -> Progress | None:
    """Progress of a part, told as that of the whole."""
    if progress is None:
        return None
    tell = progress
    return lambda done, _: tell(begin + done, total)


def _read(folder: Path) -> tuple[dict[bytes, int], list[Embeddings]]:
    """Row of every text in the shards laid end to end, and the shards.

    Two processes that filled the folder at once may both have stored a text: then either row will
    do, but both count.
    """
    rows: dict[bytes, int] = {}
    num_rows = 0
    stored = []
    for file in sorted(folder.glob("*.npz")):
        try:
            with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as shard:
                keys = shard["keys"]
                part = Embeddings(shard["vectors"], shard["num_tokens"], shard["truncated"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            file.unlink()  # damaged: its texts are embedded anew
            continue
        rows.update({key.tobytes(): num_rows + i for i, key in enumerate(keys)})
        num_rows += len(keys)
        stored.append(part)
    return rows, stored


def _write(folder: Path, keys: Sequence[bytes], found: Embeddings) -> None:
    # Behind the last, not as many as there are: a damaged one may be gone from among them.
    number = max((int(file.stem) for file in folder.glob("*.npz")), default=-1) + 1
    with atomic_file(folder / f"{number:05d}.npz") as stream:
        np.savez(
            stream,
            keys=np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 32),
            vectors=found.vectors,
            num_tokens=found.num_tokens,
            truncated=found.truncated,
        )


def _gather(
    parts: Sequence[NDArray[np.float32]],
    order: Sequence[int],
    space: EmbeddingSpace,
    dimensions: int | None,
) -> NDArray[np.float32]:
    if not parts:
        return np.zeros((0, dimensions or space.dimensions), np.float32)
    return np.concatenate(parts)[order]
