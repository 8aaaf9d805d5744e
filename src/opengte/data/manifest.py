"""The manifest of a pair store: one JSON file that says what the store holds, and its own hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import write_json
from opengte.errors import DataError

MANIFEST = "manifest.json"
FORMAT = "opengte-pairs"
VERSION = 1
LENGTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""For each of these the manifest says how many texts have more (estimated) tokens."""

_Record = TypeVar("_Record")


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What is known of a source beyond its rows.

    Attributes:
        task: family of the task (``retrieval``, ``sts``, ``nli``, ``bitext``, ...).
        symmetric: either side may stand as the query.
        in_batch_negatives: whether other rows' texts are negatives.
        scored: the rows are for losses on scores, not for contrastive ones.
        query_prompt, document_prompt: put in front while training; None = what the mixture says.
        licence: of the texts, for whoever releases a model trained on them.
        provenance: where the texts come from.
        language: of the texts, e.g. ``en`` or ``zh -> en``.
    """

    task: str = "retrieval"
    symmetric: bool = False
    in_batch_negatives: bool = True
    scored: bool = False
    query_prompt: str | None = None
    document_prompt: str | None = None
    licence: str = ""
    provenance: str = ""
    language: str = ""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of the store, by its path in it."""

    file: str
    num_rows: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class InputEntry:
    """A file that rows were read from."""

    file: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Estimated tokens of one side's texts (``text_columns.estimate_tokens``).

    Attributes:
        num_tokens: of all texts together.
        p50, p90, p99, longest: of single texts; the middle ones count at most 65,535.
        longer_than: by ``LENGTHS``, how many texts have more tokens.
    """

    num_tokens: int
    p50: int
    p90: int
    p99: int
    longest: int
    longer_than: Mapping[str, int]

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.integer]]) -> Lengths:
        """Count arrays of lengths, one by one."""
        histogram = np.zeros(1 << 16, np.int64)
        total, longest = 0, 0
        for part in parts:
            total += int(part.sum(dtype=np.int64))
            longest = max(longest, int(part.max(initial=0)))
            histogram += np.bincount(np.minimum(part, (1 << 16) - 1), minlength=1 << 16)
        seen = np.cumsum(histogram)
        last = int(seen[-1])
        p50, p90, p99 = (int(np.searchsorted(seen, share * last)) for share in (0.5, 0.9, 0.99))
        over = {str(limit): last - int(seen[limit]) for limit in LENGTHS}
        return cls(num_tokens=total, p50=p50, p90=p90, p99=p99, longest=longest, longer_than=over)


@dataclass(frozen=True, kw_only=True)
class SourceEntry:
    """What the manifest says of one source.

    Attributes:
        num_pairs: rows.
        num_matching: rows that contrastive batches may hold.
        num_negative: rows with score 0: pairs that do not match.
        num_same_sides: other rows whose sides are one text; left out of contrastive batches too.
        num_with_score, num_with_negatives: rows that have such.
        query, positive: lengths of the texts.
        facts: see ``SourceFacts``.
        inputs: files that it was built from.
        skipped: rows of these that could not be used, by reason.
        filtered: rows that filters left out, by reason.
        shards: files of the rows, in their order.
        matching: the file that numbers the matching rows; None = all rows match.
    """

    num_pairs: int
    num_matching: int
    num_negative: int
    num_same_sides: int
    num_with_score: int
    num_with_negatives: int
    query: Lengths
    positive: Lengths
    facts: SourceFacts = field(default_factory=SourceFacts)
    inputs: tuple[InputEntry, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    filtered: Mapping[str, int] = field(default_factory=dict)
    shards: tuple[FileEntry, ...]
    matching: FileEntry | None = None

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the content of the shards."""
        joined = "".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(joined.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class NegativesEntry:
    """A numbered side file of negatives that replace those of some rows from a step on."""

    number: int
    source: str
    valid_from: int
    file: FileEntry


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything in a store.

    Attributes:
        sources: by name, sorted.
        negatives: side files, by number.
    """

    sources: Mapping[str, SourceEntry]
    negatives: tuple[NegativesEntry, ...] = ()

    @property
    def num_pairs(self) -> int:
        """Rows of all sources."""
        return sum(entry.num_pairs for entry in self.sources.values())

    def with_source(self, name: str, entry: SourceEntry) -> Manifest:
        """This manifest with one source more, or changed."""
        sources = {**self.sources, name: entry}
        return replace(self, sources=dict(sorted(sources.items())))

    def write(self, folder: Path) -> None:
        """Write the manifest into ``folder`` in one step."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "num_pairs": self.num_pairs,
            "sources": {name: _plain(entry) for name, entry in self.sources.items()},
            "negatives": [_plain(entry) for entry in self.negatives],
        }
        write_json(folder / MANIFEST, {**content, "sha256": _hash_of(content)})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a store and check it against its own hash.

        Raises:
            DataError: the folder is no store, of another version, or was altered by hand.
        """
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise DataError(
                f"not a pair store: it has no {MANIFEST}; make one with `gte data build`",
                path=folder,
            ) from error
        except ValueError as error:
            raise DataError(
                f"not valid JSON ({error}); restore it, or build anew", path=path
            ) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(f"not the manifest of a pair store (format {FORMAT!r})", path=path)
        if content.get("version") != VERSION:
            raise DataError(
                f"version {content.get('version')} of the store is not known here (known: "
                f"{VERSION}); use the version of opengte that wrote it",
                path=path,
            )
        given = content.pop("sha256", None)
        if given != _hash_of(content):
            raise DataError(
                "the manifest does not match its own sha256: it was altered or damaged; restore "
                "it, or build the store anew (facts are changed with `describe_source`)",
                path=path,
            )
        sources = {name: _source_entry(entry) for name, entry in content["sources"].items()}
        negatives = tuple(
            _record(NegativesEntry, {**entry, "file": _record(FileEntry, entry["file"])})
            for entry in content["negatives"]
        )
        return cls(sources=sources, negatives=negatives)


def source_to_json(entry: SourceEntry) -> dict[str, Any]:
    """A JSON-able form, for ``source_from_json``."""
    return _plain(entry)


def source_from_json(value: Mapping[str, Any]) -> SourceEntry:
    """What ``source_to_json`` gave."""
    return _source_entry(value)


def _hash_of(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(record: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(record), allow_nan=False))
    return plain


def _source_entry(value: Mapping[str, Any]) -> SourceEntry:
    matching = value["matching"]
    return _record(
        SourceEntry,
        {
            **value,
            "query": _record(Lengths, value["query"]),
            "positive": _record(Lengths, value["positive"]),
            "facts": _record(SourceFacts, value["facts"]),
            "inputs": tuple(_record(InputEntry, entry) for entry in value["inputs"]),
            "shards": tuple(_record(FileEntry, entry) for entry in value["shards"]),
            "matching": None if matching is None else _record(FileEntry, matching),
        },
    )


def _record(kind: type[_Record], value: Mapping[str, Any]) -> _Record:
    """Make a record of the fields it knows; a later version may have written more."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: each for name, each in value.items() if name in known})
