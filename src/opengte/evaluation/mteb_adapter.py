"""``mteb`` with our encoders, and our local sets inside ``mteb`` (extra ``mteb``, version 2).

``MtebEncoder`` gives any ``TextEncoder`` the face that mteb expects, with prompts and metadata.
``run_benchmark`` runs a named benchmark where the hub of its data is reachable;
``run_with_mteb`` runs sets from local folders through mteb's own protocols, which is how ours are
checked against them.
Importing this module needs neither mteb nor torch; mteb brings torch when it runs.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import TextEncoder
from opengte.errors import ConfigError, DataError, MissingExtraError
from opengte.evaluation.measurement import unit
from opengte.evaluation.mteb_files import model_meta_facts
from opengte.evaluation.mteb_tasks import make_mteb_task
from opengte.evaluation.results import TaskResult
from opengte.evaluation.tasks import Task
from opengte.records import Kind

KINDS = {
    "Retrieval": "retrieval",
    "Reranking": "reranking",
    "STS": "sts",
    "PairClassification": "pair_classification",
    "Classification": "classification",
    "Clustering": "clustering",
    "BitextMining": "bitext",
    "Summarization": "summarisation",
    "InstructionReranking": "instruction_following",
    "InstructionRetrieval": "instruction_following",
}


class MtebEncoder:
    """A ``TextEncoder`` as mteb's ``EncoderProtocol``.

    Args:
        encoder: the model.
        prompts: prompt texts; the first of these keys that is there is used: ``TASK-query`` (or
            ``-document``), ``TASK``, ``TYPE-query``, ``TYPE``, ``query`` or ``document``. This is
            mteb's own order. Where none is there, the model's own prompt stands in front.
        instruction_template: for models that read instructions: ``INSTRUCTION_TEMPLATE`` of
            ``opengte.text.prompts``, or another text with ``{instruction}``. Filled with mteb's
            instruction of the task, it stands in front of everything but documents.
        training_datasets: MTEB names of the sets the model was trained on, for zero-shot marks.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        prompts: Mapping[str, str] | None = None,
        instruction_template: str | None = None,
        training_datasets: Iterable[str] | None = None,
    ) -> None:
        if instruction_template is not None and "{instruction}" not in instruction_template:
            raise ConfigError(
                f"instruction_template {instruction_template!r} has no place for {{instruction}}"
            )
        self.encoder = encoder
        self._prompts = dict(prompts or {})
        self._template = instruction_template
        self._training = None if training_datasets is None else set(training_datasets)
        self.mteb_model_meta = self._model_meta()

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **_: Any,
    ) -> NDArray[np.float32]:
        """The vectors of all texts of a data loader, (N, D)."""
        texts = [text for batch in inputs for text in batch["text"]]
        side = None if prompt_type is None else str(getattr(prompt_type, "value", prompt_type))
        kind: Kind | None = (
            "query" if side == "query" else "document" if side == "document" else None
        )
        prompt = self.prompt_for(task_metadata, kind)
        return self.encoder.embed(texts, kind=kind, prompt=prompt).vectors

    def prompt_for(self, task_metadata: Any, kind: Kind | None) -> str | None:
        """The prompt that replaces the model's own, if any."""
        name, type_ = task_metadata.name, task_metadata.type
        keys = [f"{name}-{kind}", name, f"{type_}-{kind}", type_, str(kind)]
        found = next((self._prompts[key] for key in keys if key in self._prompts), None)
        if found is not None or self._template is None:
            return found
        if kind == "document":
            return ""
        return self._template.format(instruction=_instruction(task_metadata))

    def similarity(self, first: Any, second: Any) -> Any:
        """Cosines of all pairs, (N, M), as a tensor."""
        torch = importlib.import_module("torch")
        a, b = np.atleast_2d(np.asarray(first)), np.atleast_2d(np.asarray(second))
        return torch.from_numpy(unit(a) @ unit(b).T)

    def similarity_pairwise(self, first: Any, second: Any) -> Any:
        """Cosines of the pairs, (N,), as a tensor."""
        torch = importlib.import_module("torch")
        a, b = np.asarray(first), np.asarray(second)
        return torch.from_numpy(np.einsum("nd,nd->n", unit(a), unit(b)))

    def _model_meta(self) -> Any:
        _mteb()
        facts = model_meta_facts(self.encoder.space)
        facts |= {"training_datasets": self._training, "loader": None}
        if self._prompts or self._template:
            facts["use_instructions"] = True
        return importlib.import_module("mteb.models.model_meta").ModelMeta(**facts)


def run_benchmark(
    encoder: MtebEncoder,
    benchmark: str,
    *,
    folder: str | Path,
    tasks: Sequence[str] | None = None,
) -> list[TaskResult]:
    """Run a benchmark of mteb by name, e.g. ``MTEB(eng, v2)``; finished tasks are not run again.

    Args:
        encoder: the model.
        benchmark: mteb's name.
        folder: where mteb keeps its result files.
        tasks: names of tasks to run; None runs all.

    Raises:
        MissingExtraError: mteb is not installed.
        ConfigError: no such benchmark, or no such task in it.
        DataError: the hub that holds its data cannot be reached.
    """
    mteb = _mteb()
    try:
        chosen = list(mteb.get_benchmark(benchmark).tasks)
    except KeyError as error:
        raise ConfigError(
            f"mteb {mteb.__version__} has no benchmark {benchmark!r}; "
            "names look like 'MTEB(eng, v2)'"
        ) from error
    if tasks is not None:
        unknown = set(tasks) - {task.metadata.name for task in chosen}
        if unknown:
            raise ConfigError(f"{benchmark} has no task {sorted(unknown)[0]!r}")
        chosen = [task for task in chosen if task.metadata.name in tasks]
    results = []
    for task in chosen:
        results += _run(encoder, task, Path(folder), task.metadata.name)
    return results


def run_with_mteb(
    encoder: MtebEncoder, tasks: Sequence[Task], *, folder: str | Path
) -> list[TaskResult]:
    """Run local sets through mteb's own protocols; result files as mteb writes them.

    Raises:
        MissingExtraError: mteb is not installed.
        ConfigError: mteb has no protocol for a kind of task.
    """
    _mteb()
    found = []
    for task in tasks:
        results = _run(encoder, make_mteb_task(task), Path(folder), task.name)
        found += [_renamed(result, task) for result in results]
    return found


def _run(encoder: MtebEncoder, task: Any, folder: Path, name: str) -> list[TaskResult]:
    mteb = _mteb()
    started = time.perf_counter()
    try:
        answer = mteb.evaluate(
            encoder,
            [task],
            cache=mteb.ResultCache(folder),
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": 1024},
        )
    except (OSError, ConnectionError) as error:
        raise DataError(
            f"the data of {name} cannot be fetched ({type(error).__name__}); the hub may not be "
            "reachable from here: give local folders with --task instead"
        ) from error
    seconds = time.perf_counter() - started
    return [_task_result(result, task, seconds) for result in answer.task_results]


def _task_result(result: Any, task: Any, seconds: float) -> TaskResult:
    """Mteb's result in our form; without intervals, which its files do not allow."""
    split, rows = next(iter(result.scores.items()))
    numbers = [
        {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        for row in rows
    ]
    shared = set.intersection(*(set(row) for row in numbers))
    means = {name: float(np.mean([row[name] for row in numbers])) for name in sorted(shared)}
    main = means.pop("main_score")
    return TaskResult(
        name=task.metadata.name,
        type=KINDS.get(task.metadata.type, task.metadata.type),
        split=split,
        main_metric=task.metadata.main_score,
        main_score=main,
        ci95=(main, main),
        interval_scope="none: mteb's files hold means alone",
        metrics={**means, task.metadata.main_score: main},
        seconds=seconds,
        subsets={row["hf_subset"]: float(row["main_score"]) for row in rows}
        if len(rows) > 1
        else {},
        origin="mteb",
    )


def _renamed(result: TaskResult, task: Task) -> TaskResult:
    return replace(result, name=task.name, type=task.type, origin="")


def _instruction(task_metadata: Any) -> str:
    prompt = task_metadata.prompt
    if isinstance(prompt, Mapping):
        prompt = prompt.get("query")
    if prompt:
        return str(prompt)
    mteb = _mteb()
    try:
        return str(mteb.get_task(task_metadata.name).abstask_prompt)
    except KeyError:
        return "Retrieve semantically similar text."


def _mteb() -> Any:
    try:
        return importlib.import_module("mteb")
    except ImportError as error:
        raise MissingExtraError("mteb", extra="mteb") from error
