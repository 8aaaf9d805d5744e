"""How many processors this process may really use.

ONNX Runtime counts the machine's cores and knows nothing of affinity masks or container quotas;
sixteen threads on a quota of two spend their time waiting for each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_TOPOLOGY = Path("/sys/devices/system/cpu")


def available_cpus() -> int:
    """Physical cores this process may run on, capped by its quota and ``OMP_NUM_THREADS``.

    Always at least 1. A quota of 1.5 processors gives 2: rounding down would idle half of one.
    """
    limits = [_num_cores(_affinity())]
    limits += [math.ceil(quota) for quota in _quotas()]
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wish.isdigit() and int(wish) > 0:
        limits.append(int(wish))
    return max(1, min(limits))


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _num_cores(processors: set[int]) -> int:
    """Cores among ``processors``: two hyper-threads of one share its multipliers."""
    siblings = set()
    for processor in processors:
        file = _TOPOLOGY / f"cpu{processor}/topology/thread_siblings_list"
        try:
            siblings.add(file.read_text().strip())
        except OSError:
            return len(processors)
    return len(siblings)


def _quotas() -> Iterator[float]:
    """Processors that each enclosing control group allows, where one is limited."""
    try:
        lines = _SELF.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        group = Path(name.lstrip("/"))
        for parent in (group, *group.parents):
            if controllers == "":
                yield from _quota_of(_CGROUPS / parent / "cpu.max")
            elif "cpu" in controllers.split(","):
                yield from _old_quota_of(_CGROUPS / "cpu" / parent)


def _quota_of(file: Path) -> Iterator[float]:
    """Version 2: ``max 100000`` or ``150000 100000``, in microseconds."""
    try:
        quota, period = file.read_text().split()
    except (OSError, ValueError):
        return
    if quota != "max":
        yield int(quota) / int(period)


def _old_quota_of(folder: Path) -> Iterator[float]:
    """Version 1: a quota of -1 is none."""
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return
    if quota > 0 and period > 0:
        yield quota / period
