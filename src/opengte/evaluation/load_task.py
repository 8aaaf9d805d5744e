"""A path -> the task that lies there, told by its layout and its first row.

The layouts are those of the project's catalogue: a BEIR folder; a folder of ``SPLIT.jsonl``; a
folder of ``XXX-eng.tsv.gz``; or one such file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from opengte.errors import ConfigError, DataError
from opengte.evaluation.beir_folder import beir_splits, is_beir_folder, read_beir
from opengte.evaluation.line_files import SUFFIXES, field_of, read_rows, read_tab_rows
from opengte.evaluation.tasks import (
    BitextTask,
    ClassificationTask,
    ClusteringTask,
    CodeSearchTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    SummarisationTask,
    Task,
)

TYPES = (
    "retrieval",
    "code_search",
    "instruction_following",
    "reranking",
    "sts",
    "pair_classification",
    "classification",
    "clustering",
    "bitext",
    "summarisation",
)
_SPLITS = ("test", "dev", "val", "validation", "train")
_NEGATIVE = {"contradiction", "not_entailment", "no", "false", "0"}
_POSITIVE = {"entailment", "yes", "true", "1"}

Rows = list[tuple[int, dict[str, Any]]]


def load_task(path: str | Path, *, split: str | None = None, type: str | None = None) -> Task:
    """Read an evaluation set.

    Args:
        path: a folder or a file, see the module.
        split: which part; None takes ``test``, else ``dev``, else the only one.
        type: one of ``TYPES``; None tells it from the fields: sentence1/sentence2 with ``score``
            is sts (0/1 scores too), with ``label`` pair classification; query/answer/label is
            reranking; text/label classification where there is a train split, else clustering;
            human_summaries/machine_summaries/relevance summarisation; a BEIR folder retrieval,
            or instruction following where queries have instructions. ``code_search`` and
            ``clustering`` beside a train split are only taken when asked for.

    Raises:
        ConfigError: an unknown type, or one that the data cannot be.
        DataError: nothing readable there, no such split, or a bad row; with file and line.
    """
    path = Path(path)
    if type is not None and type not in TYPES:
        raise ConfigError(f"unknown task type {type!r}; give one of {', '.join(TYPES)}")
    if not path.exists():
        raise DataError("no such file or folder", path=path)
    if path.is_dir() and is_beir_folder(path):
        found = read_beir(path, _choose(beir_splits(path), split, path / "qrels"))
        kind = _only(type, (found.type, "retrieval", "code_search"), path)
        return found if kind == found.type else _read_as(found, kind)
    if path.is_dir() and any(path.glob("*.tsv*")):
        _only(type, ("bitext",), path)
        return _bitext(path.name, sorted(path.glob("*.tsv*")))
    if path.is_file() and ".tsv" in path.suffixes:
        _only(type, ("bitext",), path)
        return _bitext(_stem(path), [path])
    if path.is_dir():
        files = _split_files(path)
        chosen = _choose(files, split, path)
        return _from_rows(path.name, files, chosen, type)
    if not path.name.endswith(SUFFIXES):
        raise DataError("expected .jsonl or .tsv, perhaps .gz or .zst, or a folder", path=path)
    name = path.resolve().parent.name if _is_split(_stem(path)) else _stem(path)
    if split is not None and split != _stem(path):
        raise ConfigError(
            f"split {split!r} was asked for, but {path.name} is one file; give its folder"
        )
    siblings = _split_files(path.parent) if _is_split(_stem(path)) else {}
    return _from_rows(name, {**siblings, _stem(path): path}, _stem(path), type)


def _read_as(task: RetrievalTask, kind: str) -> Task:
    """The same corpus and judgements under another protocol."""
    names = [field.name for field in fields(RetrievalTask) if field.name != "type"]
    facts = {name: getattr(task, name) for name in names}
    return (CodeSearchTask if kind == "code_search" else RetrievalTask)(**facts)


def _from_rows(name: str, files: dict[str, Path], split: str, type: str | None) -> Task:
    path = files[split]
    rows = list(read_rows(path))
    if not rows:
        raise DataError("there are no rows here", path=path)
    found = set(rows[0][1])
    if {"sentence1", "sentence2"} <= found:
        kinds = ("sts",) if "score" in found else ("pair_classification",)
        # Numbers can be read either way when they are 0 and 1.
        kind = _only(type, (*kinds, "sts", "pair_classification"), path)
        return _PAIRS[kind](name, split, rows, path)
    if {"query", "answer", "label"} <= found:
        _only(type, ("reranking",), path)
        return _reranking(name, split, rows, path)
    if {"text", "label"} <= found:
        has_train = "train" in files and split != "train"
        kind = _only(type, ("classification" if has_train else "clustering", "clustering"), path)
        if kind == "clustering":
            texts, labels = _labelled(rows, path)
            return ClusteringTask(name=name, split=split, texts=texts, labels=labels)
        return _classification(name, split, rows, path, files)
    if {"human_summaries", "machine_summaries", "relevance"} <= found:
        _only(type, ("summarisation",), path)
        return _summarisation(name, split, rows, path)
    raise DataError(
        "no known kind of task: expected sentence1/sentence2 with score or label, "
        f"query/answer/label, or text/label; found {', '.join(sorted(found)) or 'nothing'}",
        path=path,
        line=rows[0][0],
    )


def _sts(name: str, split: str, rows: Rows, path: Path) -> StsTask:
    field = "score" if "score" in rows[0][1] else "label"
    return StsTask(
        name=name,
        split=split,
        sentences1=[field_of(row, "sentence1", str, path, line) for line, row in rows],
        sentences2=[field_of(row, "sentence2", str, path, line) for line, row in rows],
        scores=[float(field_of(row, field, (int, float), path, line)) for line, row in rows],
    )


def _pair_classification(name: str, split: str, rows: Rows, path: Path) -> PairClassificationTask:
    field = "label" if "label" in rows[0][1] else "score"
    kept = [(line, row, _binary(row, field, path, line)) for line, row in rows]
    judged = [(line, row, label) for line, row, label in kept if label is not None]
    notes = {"pairs that neither match nor contradict": len(kept) - len(judged)}
    return PairClassificationTask(
        name=name,
        split=split,
        sentences1=[field_of(row, "sentence1", str, path, line) for line, row, _ in judged],
        sentences2=[field_of(row, "sentence2", str, path, line) for line, row, _ in judged],
        labels=[label for _, _, label in judged],
        notes={reason: count for reason, count in notes.items() if count},
    )


def _binary(row: dict[str, Any], field: str, path: Path, line: int) -> int | None:
    """1 for a match, 0 for none, None for NLI's ``neutral``, which C-MTEB leaves out too."""
    value = field_of(row, field, (str, int, float, bool), path, line)
    word = str(int(value)) if isinstance(value, bool | int | float) else value.strip().lower()
    if not isinstance(value, str) and float(value) not in (0.0, 1.0):
        word = repr(value)
    if word in _POSITIVE:
        return 1
    if word in _NEGATIVE:
        return 0
    if word == "neutral":
        return None
    raise DataError(
        f"{field} {value!r} is neither match nor no match; expected 0, 1, entailment, "
        "contradiction or neutral",
        path=path,
        line=line,
    )


def _reranking(name: str, split: str, rows: Rows, path: Path) -> RerankingTask:
    groups: dict[str, tuple[list[str], list[int]]] = {}
    for line, row in rows:
        answers, labels = groups.setdefault(field_of(row, "query", str, path, line), ([], []))
        answers.append(field_of(row, "answer", str, path, line))
        labels.append(int(field_of(row, "label", (int, float), path, line)))
    # MTEB's rule: a query whose candidates are all good or all bad orders nothing.
    kept = {q: g for q, g in groups.items() if 0 < sum(x > 0 for x in g[1]) < len(g[1])}
    if not kept:
        raise DataError("no query has both a relevant and an irrelevant answer", path=path)
    dropped = len(groups) - len(kept)
    return RerankingTask(
        name=name,
        split=split,
        queries=list(kept),
        candidates=[answers for answers, _ in kept.values()],
        labels=[labels for _, labels in kept.values()],
        notes={"queries without both kinds of answers": dropped} if dropped else {},
    )


def _summarisation(name: str, split: str, rows: Rows, path: Path) -> SummarisationTask:
    for line, row in rows:
        texts = field_of(row, "machine_summaries", list, path, line)
        scores = field_of(row, "relevance", list, path, line)
        if len(texts) != len(scores) or not field_of(row, "human_summaries", list, path, line):
            raise DataError(
                f"needs a human summary, and one score a machine summary; found {len(scores)} "
                f"scores for {len(texts)} summaries",
                path=path,
                line=line,
            )
    return SummarisationTask(
        name=name,
        split=split,
        human=[row["human_summaries"] for _, row in rows],
        machine=[row["machine_summaries"] for _, row in rows],
        scores=[[float(score) for score in row["relevance"]] for _, row in rows],
    )


def _classification(
    name: str, split: str, rows: Rows, path: Path, files: dict[str, Path]
) -> ClassificationTask:
    texts, labels = _labelled(rows, path)
    train_texts, train_labels = _labelled(list(read_rows(files["train"])), files["train"])
    unseen = sorted(set(labels) - set(train_labels))
    if unseen:
        raise DataError(
            f"label {unseen[0]!r} is not in the train split; it could never be predicted", path=path
        )
    return ClassificationTask(
        name=name,
        split=split,
        train_texts=train_texts,
        train_labels=train_labels,
        texts=texts,
        labels=labels,
    )


def _labelled(rows: Rows, path: Path) -> tuple[list[str], list[str]]:
    texts = [field_of(row, "text", str, path, line) for line, row in rows]
    labels = [str(field_of(row, "label", (str, int), path, line)) for line, row in rows]
    return texts, labels


def _bitext(name: str, paths: list[Path]) -> BitextTask:
    subsets = {}
    for path in paths:
        sources, targets = [], []
        for line, cells in read_tab_rows(path):
            if len(cells) != 2:
                raise DataError(
                    f"expected two sentences with one tab between, found {len(cells)} cells",
                    path=path,
                    line=line,
                )
            sources.append(cells[0])
            targets.append(cells[1])
        if not sources:
            raise DataError("there are no sentence pairs here", path=path)
        subsets[_stem(path)] = (sources, targets)
    return BitextTask(name=name, subsets=subsets)


def _split_files(folder: Path) -> dict[str, Path]:
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    return {_stem(path): path for path in files}


def _choose(files: dict[str, Path], split: str | None, path: Path) -> str:
    if not files:
        raise DataError(
            "no evaluation set here: expected corpus.jsonl with qrels/, SPLIT.jsonl, or "
            "LANGUAGE-eng.tsv.gz",
            path=path,
        )
    if split is not None:
        if split not in files:
            raise DataError(f"no split {split!r}; there are: {', '.join(sorted(files))}", path=path)
        return split
    for name in ("test", "dev", "val", "validation"):
        if name in files:
            return name
    if len(files) == 1:
        return next(iter(files))
    raise DataError(
        f"neither test nor dev among the splits {', '.join(sorted(files))}; choose with --split",
        path=path,
    )


def _only(given: str | None, possible: tuple[str, ...], path: Path) -> str:
    if given is None:
        return possible[0]
    if given not in possible:
        choice = " or ".join(dict.fromkeys(possible))
        raise ConfigError(f"type {given!r} was asked for, but this is {choice}", path=path)
    return given


def _is_split(stem: str) -> bool:
    return stem in _SPLITS or any(stem.endswith(f"_{name}") for name in _SPLITS)


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


_PAIRS: dict[str, Callable[[str, str, Rows, Path], Task]] = {
    "sts": _sts,
    "pair_classification": _pair_classification,
}
