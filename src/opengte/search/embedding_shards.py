"""A stream of texts -> their vectors on disk, in shards that are never embedded twice.

A shard's file is named after what it holds: the embedding space, the side and the texts. A build
that was killed, or a second build of a corpus that grew, finds the shards that are there and
embeds the rest; memory holds one shard. Axes: N texts, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.contracts import Progress, TextEncoder
from opengte.errors import DataError, SearchIndexError
from opengte.records import Kind
from opengte.text.text_keys import fingerprint_texts

ROWS_PER_SHARD = 16_384


def embed_to_shards(
    encoder: TextEncoder,
    texts: Iterable[str],
    folder: str | Path,
    *,
    kind: Kind | None = "document",
    prompt: str | None = None,
    dimensions: int | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    progress: Progress | None = None,
    total: int | None = None,
) -> list[Path]:
    """Embed ``texts`` below ``folder`` and name the shards in the order of the texts.

    Args:
        encoder: embeds what is not there yet.
        texts: N texts, read once.
        folder: where shards are kept; any number of corpora and models may share it.
        kind: which of the model's own prompts stands in front.
        prompt: a prompt that replaces it.
        dimensions: cut vectors to so many values (Matryoshka).
        rows_per_shard: texts of a shard; 16,384 of 384 dimensions are 24 MiB.
        progress: told how many texts have vectors, out of ``total``.
        total: N, where it is known.

    Raises:
        DataError: the encoder gave another shape, or values that are not finite.
    """
    folder = Path(folder)
    paths: list[Path] = []
    done = 0
    for number, chunk in enumerate(_chunks(texts, rows_per_shard)):
        facts = [encoder.space.fingerprint, kind, prompt, dimensions]
        path = folder / f"shard-{number:05d}-{texts_key(facts, chunk)[:16]}.npy"
        if not path.is_file():
            write_shard(encoder, chunk, path, kind=kind, prompt=prompt, dimensions=dimensions)
        paths.append(path)
        done += len(chunk)
        if progress is not None:
            progress(done, total)
    return paths


def write_shard(
    encoder: TextEncoder,
    texts: Sequence[str],
    path: Path,
    *,
    kind: Kind | None = "document",
    prompt: str | None = None,
    dimensions: int | None = None,
    what: str = "a shard",
) -> None:
    """Embed ``texts`` into one shard, which appears whole or not at all.

    Args:
        encoder: embeds them.
        texts: all texts of the shard.
        path: its file.
        kind: as in ``embed_to_shards``.
        prompt: likewise.
        dimensions: likewise.
        what: what is embedded, for messages.

    Raises:
        DataError: the encoder gave another shape, or values that are not finite.
    """
    vectors = encoder.encode(texts, kind=kind, prompt=prompt, dimensions=dimensions)
    check_vectors(vectors, len(texts), dimensions or encoder.space.dimensions, what=what)
    with atomic_file(path) as stream:
        np.save(stream, np.asarray(vectors, dtype=np.float32), allow_pickle=False)


def open_shard(path: str | Path) -> NDArray[np.float32]:
    """The vectors of a shard, (rows, D), left on disk until they are read.

    Raises:
        SearchIndexError: the file is damaged; the message names it.
    """
    path = Path(path)
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SearchIndexError(
            "these vectors cannot be read; remove it and run again", path=path
        ) from error
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
        raise SearchIndexError(
            f"expected a matrix of float32 or float16, found {vectors.dtype} of shape "
            f"{vectors.shape}; remove the file and build again",
            path=path,
        )
    mapped: NDArray[np.float32] = vectors
    return mapped


def check_vectors(
    vectors: NDArray[np.float32], num_texts: int, dimensions: int, *, what: str = "a shard"
) -> None:
    """Refuse vectors that would make every later score wrong.

    Args:
        vectors: what an encoder gave.
        num_texts: N.
        dimensions: D.
        what: what was embedded, for the message.

    Raises:
        DataError: wrong shape, or values that are not finite.
    """
    if vectors.shape != (num_texts, dimensions):
        raise DataError(
            f"the encoder gave vectors of shape {vectors.shape}, expected "
            f"({num_texts}, {dimensions}), for {what}; "
            "the model does not match the space it declares"
        )
    if not np.isfinite(vectors).all():
        row = int(np.nonzero(~np.isfinite(vectors).all(axis=1))[0][0])
        raise DataError(f"the encoder gave a vector that is not finite, for text {row} of {what}")


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def texts_key(facts: Sequence[object], texts: Sequence[str]) -> str:
    """A name for these texts under these facts, the same in every process: 64 hex digits."""
    return fingerprint_texts(texts, begin=json.dumps(facts).encode())
