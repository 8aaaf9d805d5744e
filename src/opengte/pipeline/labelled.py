"""Labelled rows of a file or folder -> batches for a classifier, and rows to measure it on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opengte.data.permutation import key_of
from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.json_rows import read_json_rows
from opengte.data.readers.labelled import LABEL_FIELDS, SENTENCE_FIELDS, TEXT_FIELDS
from opengte.errors import DataError
from opengte.records import Batch

TRAIN_FILES, TEST_FILES = ("train.jsonl",), ("test.jsonl", "dev.jsonl", "validation.jsonl")


@dataclass(frozen=True)
class LabelledRows:
    """Texts or pairs with their classes.

    Attributes:
        first: the texts, or the first of each pair.
        second: the second of each pair; empty texts where texts are classified.
        labels: names of classes.
    """

    first: Sequence[str]
    second: Sequence[str]
    labels: Sequence[str]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: Sequence[int]) -> LabelledRows:
        """Some of the rows."""
        return LabelledRows(
            *([column[i] for i in rows] for column in (self.first, self.second, self.labels))
        )


def read_labelled(
    path: Path, *, inputs: str, held_out: float, seed: int
) -> tuple[LabelledRows, LabelledRows]:
    """Rows to learn from, and rows to measure on.

    Args:
        path: a JSONL file, or a folder with ``train.jsonl`` and perhaps ``test.jsonl``.
        inputs: ``text`` or ``pair``.
        held_out: share that is measured where there is no file for it.
        seed: of the draw.

    Raises:
        DataError: a row lacks a text or a label, or there are too few rows.
    """
    if path.is_dir():
        train = _read(_first(path, TRAIN_FILES), inputs)
        test_files = [path / name for name in TEST_FILES if (path / name).is_file()]
        if test_files:
            return train, _read(test_files[0], inputs)
    else:
        train = _read(path, inputs)
    if len(train) < 4:
        raise DataError(f"{len(train)} labelled rows are too few", path=path)
    order = np.random.default_rng(seed).permutation(len(train)).tolist()
    number = max(1, round(held_out * len(train)))
    return train.take(sorted(order[number:])), train.take(sorted(order[:number]))


class LabelledBatches:
    """A ``BatchSource``: every row once an epoch, in an order drawn anew.

    Args:
        rows: what is learned from.
        labels: names of the classes, in the order of their numbers.
        batch_size: rows of a step.
        seed: of the orders.

    Raises:
        DataError: a row's class is not among ``labels``.
    """

    def __init__(
        self, rows: LabelledRows, labels: Sequence[str], *, batch_size: int, seed: int
    ) -> None:
        self.rows, self.batch_size, self.seed = rows, min(batch_size, len(rows)), seed
        self.numbers = number_labels(rows, labels)

    @property
    def fingerprint(self) -> str:
        """Changes with rows, labels, size and seed."""
        content = [self.rows.first, self.rows.second, self.numbers.tolist()]
        settings = [self.batch_size, self.seed]
        return hashlib.sha256(json.dumps([content, settings]).encode()).hexdigest()[:16]

    def batch(self, step: int) -> Batch:
        """The whole global batch of ``step``; the last rows of an epoch that fill none are left."""
        per_epoch = len(self.rows) // self.batch_size
        epoch, place = divmod(step, per_epoch)
        draw = np.random.default_rng(key_of("labelled", self.seed, str(epoch)))
        chosen = draw.permutation(len(self.rows))[place * self.batch_size :][: self.batch_size]
        return Batch(
            step=step,
            source="labelled",
            queries=[self.rows.first[i] for i in chosen],
            positives=[self.rows.second[i] for i in chosen],
            negatives=[()] * len(chosen),
            row_ids=chosen.astype(np.int64),
            row_sources=["labelled"] * len(chosen),
            query_labels=self.numbers[chosen],
            epoch=step / per_epoch,
        )


def number_labels(rows: LabelledRows, labels: Sequence[str]) -> np.ndarray:
    """Numbers of the rows' classes."""
    place = {label: number for number, label in enumerate(labels)}
    unknown = sorted(set(rows.labels) - set(place))
    if unknown:
        raise DataError(
            f"class {unknown[0]!r} is not among the labels: {', '.join(map(str, labels))}"
        )
    return np.asarray([place[label] for label in rows.labels], dtype=np.int64)


def _first(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"no {names[0]} in this folder", path=folder)


def _read(path: Path, inputs: str) -> LabelledRows:
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    for line, row in read_json_rows(path, BadRows("error", None)):
        texts = _texts(row, inputs)
        label = next((row[n] for n in LABEL_FIELDS if row.get(n) is not None), None)
        if texts is None or not isinstance(label, str | int):
            wanted = "two sentences" if inputs == "pair" else "a text"
            raise DataError(
                f"expected {wanted} and a label, found {sorted(row)}", path=path, line=line
            )
        for column, value in zip(columns, (*texts, str(label)), strict=True):
            column.append(value)
    return LabelledRows(*columns)


def _texts(row: dict[str, object], inputs: str) -> tuple[str, str] | None:
    if inputs == "pair":
        for names in SENTENCE_FIELDS:
            found = [row.get(name) for name in names]
            if all(isinstance(text, str) for text in found):
                return str(found[0]), str(found[1])
        return None
    text = next((row[n] for n in TEXT_FIELDS if isinstance(row.get(n), str)), None)
    return None if text is None else (str(text), "")
