"""Pair files -> a store of what filters leave of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opengte.contracts import Progress
from opengte.data.build import BuildResult, build_store, result_of
from opengte.data.evaluation_sets import EvaluationSet
from opengte.data.filters.apply import FiltersConfig
from opengte.data.filters.contract import FilterReport
from opengte.data.filters.stores import filter_store
from opengte.data.manifest import MANIFEST
from opengte.errors import DataError


@dataclass(frozen=True)
class FilteredBuild:
    """The store, and what the filters did.

    Attributes:
        built: the store of what is left; its report is the readers'.
        filtered: pairs kept and dropped, by reason.
    """

    built: BuildResult
    filtered: FilterReport


def build_filtered_store(
    paths: Sequence[str | Path],
    out: str | Path,
    config: FiltersConfig,
    *,
    evaluation: Sequence[EvaluationSet] = (),
    progress: Progress | None = None,
    filter_progress: Progress | None = None,
    **options: Any,
) -> FilteredBuild:
    """Build a store of all valid rows beside ``out``, then one of those that the filters keep.

    The first is removed in the end; killed at any moment, the same call goes on.

    Args:
        paths: pair files, as for ``build_store``.
        out: the store to be; it must not exist.
        config: which filters.
        evaluation: sets that training must not have seen.
        progress: told how many bytes of the files are read.
        filter_progress: told how many pairs have been judged.
        options: further ones of ``build_store``.

    Raises:
        DataError: as ``build_store``; or the filters leave nothing.
    """
    out = Path(out)
    if out.exists():
        raise DataError("exists already; choose another --out", path=out)
    whole = out.parent / f".{out.name}.unfiltered-{_key(paths, options)}"
    if (whole / MANIFEST).exists():  # an earlier call was killed while it filtered
        report = result_of(whole).report
    else:
        report = build_store(paths, whole, progress=progress, **options).report
    filtered = filter_store(whole, out, config, evaluation=evaluation, progress=filter_progress)
    shutil.rmtree(whole)
    return FilteredBuild(result_of(out, report), filtered)


def _key(paths: Sequence[str | Path], options: dict[str, Any]) -> str:
    """Changes when a file or an option does, so that nothing stale is filtered."""
    facts: list[Any] = []
    for path in map(Path, paths):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                stat = file.stat()
                facts.append([str(file.absolute()), stat.st_size, stat.st_mtime_ns])
    kept = {name: value for name, value in options.items() if name != "num_workers"}
    if kept.get("facts"):
        kept["facts"] = {name: asdict(each) for name, each in kept["facts"].items()}
    text = json.dumps([facts, kept], sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
