"""One mining run -> several processes on one machine."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opengte.contracts import TextEncoder
from opengte.errors import ConfigError
from opengte.mining.mine import MiningResult, mine_negatives
from opengte.mining.rules import MiningRules
from opengte.mining.teachers import Teacher
from opengte.records import Document, Pair

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MiningInputs:
    """What one process mines.

    Attributes:
        pairs, corpus, teacher, rules: as ``mine_negatives`` takes them.
        settings: its other keyword arguments, ``folder`` and ``progress`` left out.
    """

    pairs: Sequence[Pair]
    corpus: Sequence[Document] | None
    teacher: Teacher | TextEncoder
    rules: MiningRules | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def mine_on_cores(
    make_inputs: Callable[[], MiningInputs], *, folder: str | Path, num_processes: int
) -> MiningResult:
    """Mine with several processes that share the work item by item.

    The result is the same, byte by byte, for any number of processes, also when some of them
    die: the others do their work. Give each process one thread (``OMP_NUM_THREADS=1``), or
    they compete for the cores.

    Args:
        make_inputs: called once in every process; must be importable (a function of a module,
            or ``functools.partial`` of one), because encoders do not travel between processes.
        folder: as ``mine_negatives`` takes it.
        num_processes: this one included.
    """
    if num_processes < 1:
        raise ConfigError(f"num_processes must be >= 1, got {num_processes}")
    context = multiprocessing.get_context("spawn")
    helpers = [
        context.Process(target=_mine, args=(make_inputs, Path(folder)), daemon=True)
        for _ in range(num_processes - 1)
    ]
    for helper in helpers:
        helper.start()
    try:
        result = _mine(make_inputs, Path(folder))
    except BaseException:
        for helper in helpers:
            helper.terminate()
        raise
    for helper in helpers:
        helper.join()
        if helper.exitcode != 0:
            _LOG.warning(
                "a mining process died (exit code %s); others did its work", helper.exitcode
            )
    return result


def _mine(make_inputs: Callable[[], MiningInputs], folder: Path) -> MiningResult:
    inputs = make_inputs()
    return mine_negatives(
        inputs.pairs, inputs.corpus, inputs.teacher, inputs.rules, folder=folder, **inputs.settings
    )
