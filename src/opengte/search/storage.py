"""The folder of an index: raw vectors, JSON lines and one manifest that vouches for them.

``manifest.json`` names the embedding space and the SHA-256 of every file, so that an index says
what it is before anything is computed: vectors of another model, a file cut short or a bit
turned over is an error that names it. Nothing in the folder is code or pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_folder, write_json
from opengte.errors import SearchIndexError
from opengte.records import EmbeddingSpace
from opengte.search.bm25 import BM25Index
from opengte.search.documents import LINES, STARTS, DocumentFile
from opengte.search.embedding_shards import open_shard

MANIFEST = "manifest.json"
_FORMAT, _VERSION = "opengte-index", 1


@dataclass(frozen=True)
class StoredIndex:
    """What an index folder holds.

    Attributes:
        folder: where it lies.
        documents: the documents; row numbers of vectors and BM25 count in their order.
        vectors: shards of (rows, D), memory-mapped; empty where the index is BM25 alone.
        space: the space of the vectors; None where there are none.
        dimensions: D; smaller than the space's where vectors were cut (Matryoshka).
        bm25: the word index, if there is one.
    """

    folder: Path
    documents: DocumentFile
    vectors: list[NDArray[np.float32]]
    space: EmbeddingSpace | None
    dimensions: int
    bm25: BM25Index | None


def save_index(
    folder: str | Path,
    *,
    documents: str | Path,
    shards: Sequence[Path] = (),
    space: EmbeddingSpace | None = None,
    dimensions: int | None = None,
    bm25: BM25Index | None = None,
) -> None:
    """Put an index into ``folder`` in one step; what stood there before is replaced.

    Args:
        folder: the index to be.
        documents: a folder that ``write_documents`` filled; its files are moved from there.
        shards: files of vectors in the order of the documents; moved too.
        space: the space of the vectors.
        dimensions: D of the vectors; None takes the space's.
        bm25: an index of the same documents.
    """
    with atomic_folder(folder) as fresh:
        for name in (LINES, STARTS):
            os.replace(Path(documents) / name, fresh / name)
        names = [f"vectors-{number:05d}.npy" for number in range(len(shards))]
        for shard, name in zip(shards, names, strict=True):
            os.replace(shard, fresh / name)
        if bm25 is not None:
            bm25.save(fresh / "bm25")
        manifest = {
            "format": _FORMAT,
            "version": _VERSION,
            "num_documents": len(np.load(fresh / STARTS, mmap_mode="r")) - 1,
            "space": None if space is None else asdict(space),
            "dimensions": dimensions or (space.dimensions if space else 0),
            "vectors": names,
            "bm25": None if bm25 is None else {"tokenizer": bm25.tokenizer},
            "files": _facts(fresh),
        }
        write_json(fresh / MANIFEST, manifest)


def open_index(
    folder: str | Path, *, space: EmbeddingSpace | None = None, verify: bool = True
) -> StoredIndex:
    """Open an index folder.

    Args:
        folder: where ``save_index`` wrote.
        space: the space that queries will come from; it must be the index's own.
        verify: compare the SHA-256 of every file (about a second a gigabyte); sizes always are.

    Raises:
        SearchIndexError: no index, another space, a file that is absent, altered or unlisted.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder / MANIFEST)
    stored = None if manifest["space"] is None else _space(manifest["space"], folder)
    if space is not None and stored is not None:
        check_space(stored, space, folder)
    _check_files(folder, manifest["files"], verify=verify)
    vectors = [open_shard(folder / name) for name in manifest["vectors"]]
    documents = DocumentFile(folder)
    bm25 = BM25Index.load(folder / "bm25") if manifest["bm25"] else None
    rows = {len(documents), manifest["num_documents"]}
    rows |= {sum(map(len, vectors))} if vectors else set()
    rows |= {len(bm25)} if bm25 else set()
    if len(rows) != 1:
        raise SearchIndexError(
            f"the parts of this index hold different numbers of documents {sorted(rows)}; "
            "build it again",
            path=folder,
        )
    return StoredIndex(folder, documents, vectors, stored, manifest["dimensions"], bm25)


def check_space(stored: EmbeddingSpace, given: EmbeddingSpace, folder: Path) -> None:
    """Refuse queries from another embedding space, and say in what it differs.

    Raises:
        SearchIndexError: the spaces differ.
    """
    if stored.fingerprint == given.fingerprint:
        return
    old, new = asdict(stored), asdict(given)
    differences = [
        f"{name} {_short(old[name])} against {_short(new[name])}"
        for name in old
        if name != "model" and old[name] != new[name]
    ]
    raise SearchIndexError(
        f"this index was made by {stored.model!r} and cannot answer {given.model!r}: "
        f"{'; '.join(differences)}. Open it with its own model, or build it again",
        path=folder,
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 20 else text[:13] + "...'"


def _facts(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": _sha256(file),
        }
        for file in files
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SearchIndexError(
            "this folder holds no index (no manifest.json); make one with: gte index",
            path=path.parent,
        ) from error
    except (OSError, ValueError) as error:
        raise SearchIndexError("the manifest cannot be read; build again", path=path) from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise SearchIndexError(f"not a manifest of an {_FORMAT}; build again", path=path)
    if manifest.get("version") != _VERSION:
        raise SearchIndexError(
            f"format version {manifest.get('version')!r} is not {_VERSION}, the one this release "
            "reads; build the index again",
            path=path,
        )
    wanted = ("files", "vectors", "space", "dimensions", "bm25", "num_documents")
    missing = [name for name in wanted if name not in manifest]
    if missing or not isinstance(manifest["files"], dict):
        raise SearchIndexError(f"the manifest lacks {missing or 'files'}; build again", path=path)
    return manifest


def _check_files(folder: Path, listed: dict[str, Any], *, verify: bool) -> None:
    for name, facts in listed.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise SearchIndexError(
                f"the manifest names {name!r} outside the index", path=folder / MANIFEST
            )
        path = folder / name
        if not path.is_file():
            raise SearchIndexError("this file of the index is missing; build again", path=path)
        altered = path.stat().st_size != facts["bytes"]
        if altered or (verify and _sha256(path) != facts["sha256"]):
            raise SearchIndexError(
                "this file is not what the index was saved with (damaged or replaced); build again",
                path=path,
            )
    unlisted = {name for name in _names_read(folder) if name not in listed}
    if unlisted:
        raise SearchIndexError(
            f"the index holds files that its manifest does not list: {sorted(unlisted)[0]!r}; "
            "remove them",
            path=folder,
        )


def _names_read(folder: Path) -> set[str]:
    """Names of the files that opening reads."""
    found = {file.relative_to(folder).as_posix() for file in (folder / "bm25").glob("*")}
    found |= {file.name for file in folder.glob("vectors-*.npy")}
    return found | {name for name in (LINES, STARTS) if (folder / name).exists()}


def _space(facts: dict[str, Any], folder: Path) -> EmbeddingSpace:
    names = {field.name for field in fields(EmbeddingSpace)}
    try:
        known = {name: value for name, value in facts.items() if name in names}
        known["matryoshka_dimensions"] = tuple(known.get("matryoshka_dimensions", ()))
        return EmbeddingSpace(**known)
    except TypeError as error:
        raise SearchIndexError(
            "the manifest describes no embedding space; build again", path=folder / MANIFEST
        ) from error
