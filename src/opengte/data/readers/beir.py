"""BEIR folders: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv in, plain records out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows, RowError
from opengte.data.readers.json_rows import read_json_rows
from opengte.data.readers.lines import decode_line, read_lines
from opengte.data.readers.row_values import show
from opengte.errors import DataError
from opengte.records import Document, Pair, Query

Qrels = dict[str, dict[str, int]]
"""Query id to document id to grade; 0 and less is not relevant."""


@dataclass(frozen=True)
class BeirFolder:
    """A retrieval set in memory.

    Attributes:
        corpus: documents in file order.
        queries: every query of the file, judged or not, in file order.
        qrels: the judgements of the split that was read.
        split: its name.
    """

    corpus: list[Document]
    queries: list[Query]
    qrels: Qrels
    split: str

    @property
    def judged_queries(self) -> list[Query]:
        """The queries that the split judges."""
        return [query for query in self.queries if query.id in self.qrels]


def is_beir_folder(path: str | Path) -> bool:
    """Whether ``path`` holds a corpus, queries and a qrels folder."""
    path = Path(path)
    return (
        all(_optional(path, name) for name in ("corpus", "queries")) and (path / "qrels").is_dir()
    )


def read_beir(folder: str | Path, split: str | None = None) -> BeirFolder:
    """Read a BEIR folder whole.

    Args:
        folder: holds ``corpus.jsonl``, ``queries.jsonl`` (also ``.gz``, ``.zst``) and ``qrels/``.
        split: the qrels file without ``.tsv``; by default test, else dev, else the only one.

    Raises:
        DataError: a file is missing; an id is double, or judged and in neither file.
    """
    folder = Path(folder)
    qrels_file = _qrels_file(folder, split)
    corpus = list(read_beir_corpus(_required(folder, "corpus")))
    queries = list(read_beir_queries(_required(folder, "queries")))
    qrels = read_qrels(qrels_file)
    _check_ids(qrels, {d.id for d in corpus}, {q.id for q in queries}, qrels_file)
    return BeirFolder(corpus, queries, qrels, qrels_file.stem)


def read_beir_pairs(
    folder: str | Path, bad_rows: BadRows, split: str | None = None
) -> Iterator[Pair]:
    """One pair for each relevant judgement; documents judged 0 or less become its negatives."""
    beir = read_beir(folder, split if split is not None else _training_split(Path(folder)))
    documents = {document.id: document for document in beir.corpus}
    for query in beir.judged_queries:
        judged = beir.qrels[query.id]
        negatives = tuple(documents[d].full_text for d, grade in judged.items() if grade <= 0)
        relevant = [d for d, grade in judged.items() if grade > 0]
        if not relevant:
            bad_rows.report.skip("query without a relevant document", path=folder, detail=query.id)
        for document in relevant:
            text = documents[document].full_text
            if not text.strip() or not query.text.strip():
                bad_rows.report.skip("blank text", path=folder, detail=f"{query.id} {document}")
                continue
            origin = f"{Path(folder).name}/{beir.split}:{query.id}:{document}"
            yield Pair(query.text, text, negatives, group=query.group, origin=origin)


def read_beir_corpus(path: str | Path, bad_rows: BadRows | None = None) -> Iterator[Document]:
    """Documents of a ``corpus.jsonl``: ``_id``, ``title``, ``text``, perhaps ``metadata``."""
    for number, row in _rows_with_ids(path, bad_rows):
        yield Document(
            id=row["_id"],
            text=row["text"],
            title=_optional_text(row, "title", path, number),
            group=_optional_text(row, "group", path, number),
            kind=_optional_text(row, "kind", path, number),
            origin=_optional_text(row, "origin", path, number),
        )


def read_beir_queries(path: str | Path, bad_rows: BadRows | None = None) -> Iterator[Query]:
    """Queries of a ``queries.jsonl``: ``_id``, ``text``."""
    for number, row in _rows_with_ids(path, bad_rows):
        yield Query(row["_id"], row["text"], _optional_text(row, "group", path, number))


def read_qrels(path: str | Path) -> Qrels:
    """Judgements: query id, corpus id, integer grade, separated by tabs, below a header line.

    Raises:
        DataError: a line that is not three fields; a grade that is no integer.
    """
    qrels: Qrels = {}
    for number, raw in read_lines(path):
        if not raw.strip():
            continue
        try:
            fields = decode_line(raw).split("\t")
            if number == 1 and fields[-1].strip() == "score":
                continue
            query, document, grade = fields
            qrels.setdefault(query.strip(), {})[document.strip()] = int(grade)
        except ValueError as error:
            message = f"expected query-id, corpus-id and an integer score, got {show(raw)}"
            raise DataError(message, path=path, line=number) from error
    return qrels


def _rows_with_ids(
    path: str | Path, bad_rows: BadRows | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    bad_rows = BadRows() if bad_rows is None else bad_rows
    seen: set[str] = set()
    for number, row in read_json_rows(path, bad_rows):
        try:
            row["_id"] = _id_of(row)
            if type(row.get("text")) is not str:
                raise RowError("no text", f"no field 'text'; found {sorted(row)}")
            if row["_id"] in seen:
                raise RowError("double id", f"the id {row['_id']!r} stands twice")
        except RowError as error:
            bad_rows.refuse(error.reason, str(error), path=path, line=number, cause=error)
            continue
        seen.add(row["_id"])
        yield number, row


def _id_of(row: Mapping[str, Any]) -> str:
    value = row.get("_id", row.get("id"))
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise RowError("no id", f"no field '_id'; found {sorted(row)}")
    return str(value)


def _optional_text(row: Mapping[str, Any], field: str, path: str | Path, line: int) -> str:
    value = row.get(field)
    if value is None:
        return ""
    if type(value) is not str:
        raise DataError(f"field {field!r} must be a text, got {show(value)}", path=path, line=line)
    return value


def _optional(folder: Path, stem: str) -> Path | None:
    for suffix in (".jsonl", ".jsonl.gz", ".jsonl.zst"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    return None


def _required(folder: Path, stem: str) -> Path:
    path = _optional(folder, stem)
    if path is None:
        raise DataError(f"no {stem}.jsonl in this folder", path=folder)
    return path


def _splits(folder: Path) -> dict[str, Path]:
    files = sorted((folder / "qrels").glob("*.tsv")) if folder.is_dir() else []
    if not files:
        raise DataError("no qrels/*.tsv in this folder", path=folder)
    return {file.stem: file for file in files}


def _qrels_file(folder: Path, split: str | None) -> Path:
    splits = _splits(folder)
    if split is None:
        wanted = [name for name in ("test", "dev") if name in splits]
        split = wanted[0] if wanted else next(iter(splits))
    if split not in splits:
        raise DataError(f"no split {split!r}; found {sorted(splits)}", path=folder / "qrels")
    return splits[split]


def _training_split(folder: Path) -> str:
    """Pairs are for training: ``train`` if it is there, else what evaluation would take."""
    return "train" if "train" in _splits(folder) else _qrels_file(folder, None).stem


def _check_ids(qrels: Qrels, documents: set[str], queries: set[str], path: Path) -> None:
    for query, judged in qrels.items():
        if query not in queries:
            raise DataError(f"query {query!r} is judged, but not in queries.jsonl", path=path)
        for document in judged:
            if document not in documents:
                message = f"document {document!r} is judged, but not in corpus.jsonl"
                raise DataError(message, path=path)
