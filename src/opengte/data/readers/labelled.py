"""Labelled sets to pairs, as INSTRUCTOR and NV-Embed build them: classes, STS, NLI."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from opengte.data.readers.bad_rows import BadRows, RowError
from opengte.data.readers.row_values import Row, number_of, show, text_of
from opengte.errors import DataError
from opengte.records import Pair

Rows = Iterable[tuple[int, dict[str, Any]]]
Side = Literal["label", "example"]

TEXT_FIELDS = ("text", "sentence", "utterance", "content", "query", "question")
LABEL_FIELDS = ("label_text", "label", "labels", "intent", "category", "class", "coarse_label")
SENTENCE_FIELDS = (
    ("sentence1", "sentence2"),
    ("sentence_A", "sentence_B"),
    ("premise", "hypothesis"),
    ("text1", "text2"),
)
_ENTAILMENT = frozenset({"entailment", "entail", "entails", "e", "0", "supports"})
_CONTRADICTION = frozenset({"contradiction", "contradict", "c", "2", "refutes"})
_OTHER = frozenset({"neutral", "n", "1", "-", "-1", "not enough info", "not_enough_info"})


def class_pairs(
    rows: Rows,
    path: Path,
    bad_rows: BadRows,
    *,
    positive: Side = "label",
    num_negatives: int = 7,
    seed: int = 0,
) -> Iterator[Pair]:
    """Pairs of a classification or clustering set; every text is a query once.

    Args:
        rows: (line, row with a text and a label).
        path: for messages and origins.
        bad_rows: what to do with rows that cannot be used.
        positive: ``label`` pairs a text with its label's name, the other labels being its
            negatives (INSTRUCTOR); ``example`` with another text of its class, texts of other
            classes being its negatives (NV-Embed).
        num_negatives: at most so many.
        seed: chooses examples and negatives; equal seeds make equal pairs.
    """
    by_label: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, row in _usable(rows, path, bad_rows, _text_and_label):
        text, label = row
        by_label[label].append((number, text))
    if len(by_label) < 2:
        raise DataError(f"needs two classes at least, found {sorted(by_label)}", path=path)
    chooser = random.Random(seed)
    make = _with_label if positive == "label" else _with_example
    for label in sorted(by_label):
        for place, (number, text) in enumerate(by_label[label]):
            found = make(by_label, label, place, num_negatives, chooser)
            if found is None:
                bad_rows.report.skip("class with one example", path=path, line=number)
                continue
            answer, negatives = found
            origin = f"{path.name}:{number}"
            yield Pair(text, answer, negatives, kind=f"class-{positive}", origin=origin)


def sts_pairs(
    rows: Rows, path: Path, bad_rows: BadRows, *, threshold: float = 0.8
) -> Iterator[Pair]:
    """Both directions of every pair whose similarity is ``threshold`` or more (4 of 5).

    Scores may lie in [0, 1] or [0, 5]; the file's largest decides.
    """
    kept = list(_usable(rows, path, bad_rows, _sentences_and_score))
    scale = 5.0 if any(score > 1.0 for _, (_, _, score) in kept) else 1.0
    for number, (first, second, score) in kept:
        if score > scale or score < 0:
            message = f"a similarity must lie in [0, {scale:g}], got {score:g}"
            bad_rows.refuse("bad score", message, path=path, line=number)
        elif score < threshold * scale:
            bad_rows.report.skip("similarity under the threshold", path=path, line=number)
        else:
            origin = f"{path.name}:{number}"
            yield Pair(first, second, kind="sts", origin=origin)
            yield Pair(second, first, kind="sts", origin=origin)


def nli_pairs(rows: Rows, path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """(premise, what it entails), with what contradicts the same premise as negatives.

    Premises without an entailed text are counted; neutral rows are passed over.
    """
    entailed: dict[str, list[tuple[int, str]]] = {}
    contradicted: dict[str, list[str]] = defaultdict(list)
    for number, (premise, hypothesis, verdict) in _usable(rows, path, bad_rows, _nli_row):
        entailed.setdefault(premise, [])
        if verdict == "entailment":
            entailed[premise].append((number, hypothesis))
        elif verdict == "contradiction":
            contradicted[premise].append(hypothesis)
    for premise, texts in entailed.items():
        if not texts:
            bad_rows.report.skip("premise that entails nothing", path=path)
        for number, hypothesis in texts:
            negatives = tuple(dict.fromkeys(contradicted.get(premise, ())))
            origin = f"{path.name}:{number}"
            yield Pair(premise, hypothesis, negatives, kind="nli", origin=origin)


def _usable(rows: Rows, path: Path, bad_rows: BadRows, read: Any) -> Iterator[tuple[int, Any]]:
    for number, row in rows:
        try:
            yield number, read(row)
        except RowError as error:
            bad_rows.refuse(error.reason, str(error), path=path, line=number, cause=error)


def _text_and_label(row: Row) -> tuple[str, str]:
    text_field = _present(row, TEXT_FIELDS)
    label_field = _present(row, LABEL_FIELDS, but=text_field)
    label = row[label_field]
    if isinstance(label, bool) or not isinstance(label, (str, int)) or label == "":
        raise RowError("bad label", f"field {label_field!r} must name a class, got {show(label)}")
    return text_of(row, text_field).strip(), str(label).replace("_", " ").strip()


def _sentences_and_score(row: Row) -> tuple[str, str, float]:
    first, second = _sentence_fields(row)
    field = _present(row, ("score", "similarity_score", "relatedness_score", "label"))
    score = number_of(row, field)
    if score is None:
        raise RowError("no score", f"field {field!r} is empty")
    return text_of(row, first), text_of(row, second), score


def _nli_row(row: Row) -> tuple[str, str, str]:
    first, second = _sentence_fields(row)
    field = _present(row, ("gold_label", "label", "entailment_label", "entailment_judgment"))
    label = str(row[field]).strip().lower()
    for verdict, names in (
        ("entailment", _ENTAILMENT),
        ("contradiction", _CONTRADICTION),
        ("neutral", _OTHER),
    ):
        if label in names:
            return text_of(row, first), text_of(row, second), verdict
    message = (
        f"field {field!r} must be entailment, neutral or contradiction, got {show(row[field])}"
    )
    raise RowError("bad label", message)


def _sentence_fields(row: Row) -> tuple[str, str]:
    for first, second in SENTENCE_FIELDS:
        if first in row and second in row:
            return first, second
    raise RowError(
        "no two sentences", f"no fields 'sentence1' and 'sentence2'; found {sorted(row)}"
    )


def _present(row: Row, fields: Sequence[str], but: str = "") -> str:
    for field in fields:
        if field != but and row.get(field) is not None:
            return field
    raise RowError(f"no field {fields[0]!r}", f"no field {fields[0]!r}; found {sorted(row)}")


Classes = dict[str, list[tuple[int, str]]]


def _with_label(
    classes: Classes, label: str, place: int, number: int, chooser: random.Random
) -> tuple[str, tuple[str, ...]]:
    others = sorted(set(classes) - {label})
    return label, tuple(chooser.sample(others, min(number, len(others))))


def _with_example(
    classes: Classes, label: str, place: int, number: int, chooser: random.Random
) -> tuple[str, tuple[str, ...]] | None:
    examples = classes[label]
    text = examples[place][1]
    same = [each for _, each in examples if each != text]
    if not same:
        return None
    others = sorted(set(classes) - {label})
    negatives = [
        chooser.choice(classes[other])[1]
        for other in chooser.sample(others, min(number, len(others)))
    ]
    return chooser.choice(same), tuple(dict.fromkeys(negatives))
