"""A batch of strings -> token ids in micro-batches, and where each embedding belongs.

Axes: B pairs of the global batch, N hard negatives in it, W ranks.

Every rank sees the whole batch of strings, so each knows how many texts every other rank holds:
no sizes have to be exchanged, and no collective can depend on a rank's own columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError, DataError
from opengte.records import Batch
from opengte.text.token_budget import group_by_length
from opengte.text.tokenizer import Tokenizer
from opengte.text.truncation import TokenizedText
from opengte.training.config import TrainingConfig

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


@dataclass(frozen=True)
class BatchLayout:
    """Where the texts of a global batch lie when every rank has embedded its own.

    Attributes:
        num_rows, num_negatives: of each rank, W values.
        rows: the rows of this rank.
        negative_owners: int64, (N,): the row of each hard negative, in order of rows.
        document_labels, negative_labels: int64, (B,) and (N,): equal = the same text or
            class; None where every text is its own.
    """

    num_rows: tuple[int, ...]
    num_negatives: tuple[int, ...]
    rows: range
    negative_owners: NDArray[np.int64]
    document_labels: NDArray[np.int64] | None
    negative_labels: NDArray[np.int64] | None

    @property
    def num_texts(self) -> tuple[int, ...]:
        """Texts of each rank: its queries, documents and negatives."""
        return tuple(
            2 * rows + negatives
            for rows, negatives in zip(self.num_rows, self.num_negatives, strict=True)
        )

    def gathered_order(self) -> NDArray[np.int64]:
        """Positions that sort gathered embeddings: all queries, all documents, all negatives.

        What is gathered are the texts of rank 0, then of rank 1, ...; each rank's own are its
        queries, then its documents, then its negatives.
        """
        parts: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
        start = 0
        for rows, negatives in zip(self.num_rows, self.num_negatives, strict=True):
            for part, length in zip(parts, (rows, rows, negatives), strict=True):
                part.append(np.arange(start, start + length))
                start += length
        return np.concatenate([block for part in parts for block in part])


def lay_out(batch: Batch, rank: int, world_size: int) -> BatchLayout:
    """Work out who holds what; the same on every rank but for ``rows``."""
    slices = [batch.slice(other, world_size) for other in range(world_size)]
    num_rows = tuple(len(part) for part in slices)
    start = sum(num_rows[:rank])
    owners = np.repeat(np.arange(len(batch)), [len(texts) for texts in batch.negatives])
    document_labels, negative_labels = label_documents(batch)
    return BatchLayout(
        num_rows=num_rows,
        num_negatives=tuple(sum(map(len, part.negatives)) for part in slices),
        rows=range(start, start + num_rows[rank]),
        negative_owners=owners.astype(np.int64),
        document_labels=document_labels,
        negative_labels=negative_labels,
    )


def label_documents(
    batch: Batch,
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Number the documents so that equal texts have equal numbers, hard negatives included.

    A hard negative of one row may be the positive of another; unlabelled it would be pushed
    away from the very query it answers. Labels that the batch brings are kept, and a negative
    takes the label of the positive it equals.
    """
    negatives = [text for texts in batch.negatives for text in texts]
    given = batch.positive_labels
    if given is None and len({*batch.positives, *negatives}) == len(batch) + len(negatives):
        return None, None
    documents = np.arange(len(batch)) if given is None else np.asarray(given, dtype=np.int64)
    numbers: dict[str, int] = {}
    labels = []
    for text, label in zip(batch.positives, documents, strict=True):
        numbers.setdefault(text, int(label))
        labels.append(numbers[text] if given is None else int(label))
    fresh = max(numbers.values(), default=-1) + 1
    for text in negatives:
        if text not in numbers:
            numbers[text] = fresh
            fresh += 1
    negative_labels = np.asarray([numbers[text] for text in negatives], dtype=np.int64)
    return np.asarray(labels, dtype=np.int64), negative_labels if negatives else None


@dataclass(frozen=True)
class Reader:
    """How texts of each side become token ids.

    Attributes:
        query_tokenizer, document_tokenizer: the same, but for models whose sides have their
            own delimiters.
        query_max_tokens, document_max_tokens: longest inputs, special tokens included.
    """

    query_tokenizer: Tokenizer
    document_tokenizer: Tokenizer
    query_max_tokens: int
    document_max_tokens: int

    @property
    def max_tokens(self) -> int:
        """The longest input of either side."""
        return max(self.query_max_tokens, self.document_max_tokens)

    @classmethod
    def of(cls, encoder: Encoder, config: TrainingConfig) -> Reader:
        """What the encoder reads, cut to what the config says.

        Raises:
            ConfigError: the config asks for longer texts than the encoder reads.
        """
        for name in ("query_max_tokens", "document_max_tokens"):
            wanted = getattr(config, name)
            if wanted is not None and wanted > encoder.max_tokens:
                raise ConfigError(
                    f"{name} is {wanted}, but the model reads {encoder.max_tokens} tokens; "
                    "raise the model's max_tokens, or lower this"
                )
        settings, tokenizer = encoder.settings, encoder.tokenizer
        query, document = settings.query_delimiters, settings.document_delimiters
        return cls(
            tokenizer if query is None else tokenizer.with_delimiters(*query),
            tokenizer if document is None else tokenizer.with_delimiters(*document),
            config.query_max_tokens or encoder.max_tokens,
            config.document_max_tokens or encoder.max_tokens,
        )


def tokenize_batch(part: Batch, reader: Reader) -> list[TokenizedText]:
    """Token ids of a rank's texts: its queries, then its documents, then its negatives."""
    document_prompts = part.document_prompt_characters
    negatives = [text for texts in part.negatives for text in texts]
    negative_prompts: int | list[int] = (
        document_prompts
        if isinstance(document_prompts, int)
        else [
            characters
            for characters, texts in zip(document_prompts, part.negatives, strict=True)
            for _ in texts
        ]
    )
    queries = reader.query_tokenizer.encode(
        part.queries,
        max_tokens=reader.query_max_tokens,
        prompt_characters=part.query_prompt_characters,
    )
    sides = [(part.positives, document_prompts), (negatives, negative_prompts)]
    documents = [
        text
        for texts, prompts in sides
        if texts
        for text in reader.document_tokenizer.encode(
            texts, max_tokens=reader.document_max_tokens, prompt_characters=prompts
        )
    ]
    return [*queries, *documents]


@dataclass(frozen=True)
class MicroBatch:
    """Texts that are encoded together.

    Attributes:
        positions: their positions among the rank's texts, longest first.
        texts: their token ids.
    """

    positions: NDArray[np.int64]
    texts: Sequence[TokenizedText]

    @property
    def num_tokens(self) -> int:
        """Tokens that are read, special tokens included."""
        return sum(len(text.ids) for text in self.texts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return np.asarray([len(text.ids) for text in self.texts], dtype=np.int64)


def micro_batches(texts: Sequence[TokenizedText], *, max_tokens: int) -> list[MicroBatch]:
    """Cut texts by length into groups under a budget of tokens, longest first."""
    groups = group_by_length([len(text.ids) for text in texts], max_tokens=max_tokens)
    return [MicroBatch(group, [texts[position] for position in group]) for group in groups]


def name_rows(batch: Batch, rows: Sequence[int] | None = None, *, limit: int = 8) -> str:
    """Rows of a batch as a message names them: ``rows 4, 17 of "docstring-code"``."""
    chosen = range(len(batch)) if rows is None else rows
    by_source: dict[str, list[int]] = {}
    for row in chosen:
        by_source.setdefault(batch.row_sources[row], []).append(int(batch.row_ids[row]))
    return "; ".join(_name_source(source, ids, limit) for source, ids in sorted(by_source.items()))


def _name_source(source: str, ids: list[int], limit: int) -> str:
    shown = ", ".join(map(str, ids[:limit]))
    rest = f", ... ({len(ids)} in all)" if len(ids) > limit else ""
    return f'rows {shown}{rest} of source "{source}"'


def check_batch(batch: Batch, step: int, world_size: int) -> None:
    """Refuse a batch that cannot be learned from.

    Raises:
        DataError: it has fewer rows than there are ranks, or its columns differ in length.
    """
    if len(batch) < world_size:
        raise DataError(
            f"the batch of step {step} has {len(batch)} pairs for {world_size} "
            f"{'rank' if world_size == 1 else 'ranks'}; every rank needs one at least"
        )
    for name, length in _column_lengths(batch):
        if length != len(batch):
            raise DataError(
                f"the batch of step {step} has {len(batch)} queries but {length} {name}"
            )


def _column_lengths(batch: Batch) -> Iterator[tuple[str, int]]:
    for name in ("positives", "negatives", "row_ids", "row_sources"):
        yield name, len(getattr(batch, name))
