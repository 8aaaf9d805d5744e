"""Evaluation sets -> the texts that training must not have seen.

Any layout of a task is read: a BEIR folder, a folder of ``SPLIT.jsonl``, a folder of
``XXX-eng.tsv.gz``, or one file. What is measured with is told from what may be trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.beir import is_beir_folder, read_beir, read_beir_corpus
from opengte.data.readers.detect import suffixes_of
from opengte.data.readers.json_rows import read_json_rows
from opengte.data.readers.lines import decode_line, read_lines
from opengte.errors import DataError

_MEASURED = ("test", "dev", "val", "valid", "validation")
_NO_TEXTS = {"_id", "id", "label", "labels", "idx", "metadata", "score", "split", "genre", "source"}


@dataclass(frozen=True)
class EvaluationSet:
    """The texts of one evaluation set.

    Attributes:
        name: of its folder or file.
        split: the one that is measured with: test, else dev.
        measured: the texts of each of its rows: both sentences, the query, the text to classify.
        training: texts of its own train split, if it has one.
        corpus: documents of a retrieval task.
    """

    name: str
    split: str
    measured: tuple[tuple[str, ...], ...]
    training: tuple[str, ...] = ()
    corpus: tuple[str, ...] = ()


def read_evaluation_set(path: str | Path, *, split: str | None = None) -> EvaluationSet:
    """Read the texts of a task.

    Args:
        path: BEIR folder, folder of split files, or one file.
        split: what is measured with; by default test, else dev.

    Raises:
        DataError: nothing that can be read is there; names what was looked for.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("no such evaluation set", path=path)
    if path.is_file():
        rows = tuple(_rows_of(path))
        return _checked(EvaluationSet(_stem(path), _stem(path), rows), path)
    if is_beir_folder(path):
        return _checked(_beir(path, split), path)
    files = {_stem(file): file for file in sorted(path.iterdir()) if _is_text_table(file)}
    if not files:
        raise DataError(
            "no evaluation set: neither a BEIR folder nor a folder of SPLIT.jsonl or .tsv files",
            path=path,
        )
    chosen = _measured_files(files, split, path)
    rows = tuple(row for name in chosen for row in _rows_of(files[name]))
    training = tuple(
        text
        for name, file in files.items()
        if "train" in name
        for row in _rows_of(file)
        for text in row
    )
    shown = chosen[0] if len(chosen) == 1 else "all"
    return _checked(EvaluationSet(path.resolve().name, shown, rows, training), path)


def _checked(found: EvaluationSet, path: Path) -> EvaluationSet:
    if not found.measured:
        raise DataError("the evaluation set holds no text", path=path)
    return found


def _measured_files(files: dict[str, Path], split: str | None, path: Path) -> list[str]:
    if split is not None:
        if split not in files:
            raise DataError(f"no split {split!r}; there are: {', '.join(sorted(files))}", path=path)
        return [split]
    for name in _MEASURED:
        if name in files:
            return [name]
    rest = [name for name in files if "train" not in name]
    if not rest:
        raise DataError("only a train split; name what is measured with split=", path=path)
    return rest


def _beir(path: Path, split: str | None) -> EvaluationSet:
    folder = read_beir(path, split)
    judged = set(folder.qrels)
    measured = tuple((query.text,) for query in folder.judged_queries)
    trained = _training_queries(path, folder.split)
    training = tuple(
        query.text for query in folder.queries if query.id in trained and query.id not in judged
    )
    corpus_file = next(file for file in sorted(path.glob("corpus.jsonl*")))
    corpus = tuple(
        text
        for document in read_beir_corpus(corpus_file)
        for text in {document.text, document.full_text}
        if text
    )
    return EvaluationSet(path.resolve().name, folder.split, measured, training, corpus)


def _training_queries(path: Path, measured: str) -> set[str]:
    if measured == "train" or not (path / "qrels" / "train.tsv").exists():
        return set()
    return set(read_beir(path, "train").qrels)


def _rows_of(file: Path) -> Iterator[tuple[str, ...]]:
    """The texts of each row: every text field of a JSON object, every column of a table."""
    suffix, _ = suffixes_of(file)
    if suffix in (".tsv", ".csv"):
        for _, line in read_lines(file):
            cells = decode_line(line).split("\t")
            yield tuple(cell for cell in cells if cell.strip() and not _is_number(cell))
        return
    for _, row in read_json_rows(file, BadRows()):
        texts: list[str] = []
        for field, value in row.items():
            if field.lower() not in _NO_TEXTS:
                texts += _texts_in(value)
        yield tuple(texts)


def _texts_in(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        return [text for text in value if isinstance(text, str) and text.strip()]
    return []


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_text_table(file: Path) -> bool:
    return file.is_file() and suffixes_of(file)[0] in (".jsonl", ".tsv", ".csv")


def _stem(file: Path) -> str:
    suffix, compression = suffixes_of(file)
    return file.name[: -len(suffix + compression)] if suffix or compression else file.name
