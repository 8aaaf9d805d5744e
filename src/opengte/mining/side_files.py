"""Negatives mined anew during training -> numbered files -> the batches of later steps.

A file says from which step it is valid, and that step lies past everything already fetched when
it was written: so the batch of a step stays a pure function of the seed, the step and the
files made before it, on every rank and through every resume. Axes: N mined pairs, P pairs of
one file, n negatives of a pair.

Steps: ``made`` counts finished steps, as ``StepContext.step`` does; a batch number counts from
0, as ``BatchSource.batch`` does. So the batch of number s is the first one not yet learned from
when s steps are finished, and the training loop may have fetched it already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import atomic_file
from opengte.contracts import BatchSource, StepContext
from opengte.errors import ConfigError, DataError
from opengte.mining.blocks import NO_ROW
from opengte.mining.mine import MiningResult
from opengte.records import Batch
from opengte.text.text_keys import text_key

_NAME = re.compile(r"negatives-(\d{8})-from-(\d{8})\.npz")


@dataclass(frozen=True, slots=True)
class SideFile:
    """One file of new negatives, known by its name.

    Attributes:
        made: steps that were finished when it was made.
        valid_from: the first batch number that uses it.
    """

    path: Path
    made: int
    valid_from: int


def side_files(folder: Path) -> list[SideFile]:
    """All files in ``folder``, oldest first."""
    found = []
    for path in folder.glob("negatives-*.npz"):
        match = _NAME.fullmatch(path.name)
        if match:
            found.append(SideFile(path, int(match[1]), int(match[2])))
    return sorted(found, key=lambda file: file.made)


def write_side_file(
    folder: Path, *, made: int, valid_from: int, fingerprint: str, **arrays: NDArray[np.generic]
) -> None:
    """Write one file in one step.

    Args:
        folder: shared by all ranks.
        made: finished steps.
        valid_from: see ``SideFile``; at least ``made + 1``, for batch ``made`` is under way.
        fingerprint: of the mining run whose pairs and rows are meant.
        **arrays: ``pairs`` int64 (P,) and ``rows`` int64 (P, n), and what the writer wants back.
    """
    if valid_from <= made:
        raise ConfigError(
            f"new negatives made after step {made} cannot be valid from batch {valid_from}, "
            "which may have been fetched already; raise lead_steps"
        )
    with atomic_file(folder / f"negatives-{made:08d}-from-{valid_from:08d}.npz") as stream:
        np.savez(stream, fingerprint=np.array(fingerprint), **arrays)  # type: ignore[arg-type]


def read_side_file(file: SideFile, fingerprint: str) -> Mapping[str, NDArray[np.generic]]:
    """The arrays of a file.

    Raises:
        DataError: it belongs to another mining run, or is damaged.
    """
    try:
        with open(file.path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError) as error:
        raise DataError("a file of new negatives cannot be read", path=file.path) from error
    if str(found.pop("fingerprint", "")) != fingerprint:
        raise DataError(
            "these negatives belong to another mining run; remove the folder, or train in another",
            path=file.path,
        )
    return found


def clean_folder(folder: Path, context: StepContext, step: int) -> None:
    """Before the first step of a process: drop what a killed run made after its checkpoint.

    It will be made again on the way, equal where training repeats exactly.

    Args:
        folder: shared by all ranks; made if absent.
        context: of the first step; every rank must call.
        step: finished steps of the checkpoint that training went on from, 0 without one.
    """
    if context.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for file in side_files(folder):
            if file.made > step:
                file.path.unlink()
    context.barrier()


class NegativeTable:
    """The negatives of every mined pair as they stand at some step.

    Args:
        mined: what the pairs started with.
        folder: where the numbered files appear.
    """

    def __init__(self, mined: MiningResult, folder: Path) -> None:
        self._mined = mined
        self._folder = folder
        self.rows = mined.pairs.rows.copy()
        self._applied = -1

    def advance_to_batch(self, number: int) -> None:
        """Stand as the batch of this number must see it; going back is allowed."""
        self._advance([file for file in side_files(self._folder) if file.valid_from <= number])

    def advance_to_made(self, step: int) -> None:
        """Stand as the newest files made up to ``step`` say, valid already or not."""
        self._advance([file for file in side_files(self._folder) if file.made <= step])

    def texts(self, pair: int) -> tuple[str, ...]:
        """The negatives of one pair: those it was given, then those that were mined."""
        rows = self.rows[pair]
        found = tuple(self._mined.pairs.texts[row] for row in rows[rows != NO_ROW].tolist())
        return self._mined.pairs.given[pair].negatives + found

    def is_renewed(self, pair: int) -> bool:
        """Whether some file has changed the negatives of a pair."""
        return not np.array_equal(self.rows[pair], self._mined.pairs.rows[pair])

    def _advance(self, files: Sequence[SideFile]) -> None:
        if not files or files[-1].made < self._applied:
            self.rows[:] = self._mined.pairs.rows
            self._applied = -1
        for file in files:
            if file.made > self._applied:
                arrays = read_side_file(file, self._mined.fingerprint)
                self.rows[arrays["pairs"]] = arrays["rows"]
                self._applied = file.made


class PairNumbers:
    """Finds the number of a mined pair from the texts of a batch's row."""

    def __init__(self, mined: MiningResult) -> None:
        self._numbers: dict[tuple[int, int], int] = {}
        for number, pair in enumerate(mined.pairs.given):
            key = (text_key(pair.query), text_key(pair.positive))
            self._numbers.setdefault(key, number)

    def of(self, batch: Batch) -> list[int | None]:
        """For each row the number of its pair; None where it was not mined for."""
        queries = _without_prompts(batch.queries, batch.query_prompt_characters)
        positives = _without_prompts(batch.positives, batch.document_prompt_characters)
        return [
            self._numbers.get((text_key(query), text_key(positive)))
            for query, positive in zip(queries, positives, strict=True)
        ]


class RefreshedBatches:
    """A ``BatchSource`` whose mined negatives are the newest that are valid.

    Args:
        batches: gives the batches, with the negatives that were mined before training.
        mined: that mining, with everything it knows of its pairs.
        folder: where the callback that refreshes writes its files.
    """

    def __init__(self, batches: BatchSource, mined: MiningResult, folder: str | Path) -> None:
        self._batches = batches
        self._mined = mined
        self._table = NegativeTable(mined, Path(folder))
        self._numbers = PairNumbers(mined)

    @property
    def fingerprint(self) -> str:
        """Of the batches and of the mining run; the files follow from those and the training."""
        return f"{self._batches.fingerprint}+{self._mined.fingerprint}"

    def batch(self, step: int) -> Batch:
        """The batch of ``step`` with the negatives that are valid for it."""
        batch = self._batches.batch(step)
        self._table.advance_to_batch(step)
        prompts = _prompts(batch.positives, batch.document_prompt_characters)
        rows = zip(batch.negatives, self._numbers.of(batch), prompts, strict=True)
        return replace(batch, negatives=[self._renewed(*row) for row in rows])

    def _renewed(self, own: tuple[str, ...], number: int | None, prompt: str) -> tuple[str, ...]:
        """The negatives of a row; where the source chose some of them, those in their places."""
        if number is None or not self._table.is_renewed(number):
            return own
        before, after = self._mined.pairs[number].negatives, self._table.texts(number)
        if len(own) == len(before):
            return tuple(prompt + text for text in after)
        in_place = dict(zip(before, after, strict=False))
        bare = (text[len(prompt) :] for text in own)
        return tuple(prompt + in_place[text] for text in bare if text in in_place)


def _without_prompts(texts: Sequence[str], characters: int | Sequence[int]) -> list[str]:
    return [text[size:] for text, size in zip(texts, _sizes(texts, characters), strict=True)]


def _prompts(texts: Sequence[str], characters: int | Sequence[int]) -> list[str]:
    return [text[:size] for text, size in zip(texts, _sizes(texts, characters), strict=True)]


def _sizes(texts: Sequence[str], characters: int | Sequence[int]) -> Sequence[int]:
    return [characters] * len(texts) if isinstance(characters, int) else characters
