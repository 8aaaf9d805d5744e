"""Work items that several processes share -> each is done once, by whoever comes first.

Processes need not know of each other: they are started with the same arguments on the same
folder, on one machine or on several that share it. A claim is a lock that the operating system
takes back from a process that dies, so the work of a killed one is done by the others; it never
waits for a time-out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from opengte.atomic import storage_errors

try:
    import fcntl
except ImportError:  # Windows: no claims, so items may be done twice, with equal results
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def claim(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the claim file ``path`` for the length of the block.

    Args:
        path: the claim file; made if absent, and left behind empty.
        wait: whether to wait for another holder to finish or die.

    Yields:
        Whether the claim is ours; always True with ``wait``.
    """
    if fcntl is None:
        yield True
        return
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "wb")  # noqa: SIM115 - closed below; the lock lives as long as it
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def share_work(
    num_items: int,
    *,
    path_of: Callable[[int], Path],
    make: Callable[[int], None],
    claims: Path,
    done: Callable[[int], None] | None = None,
) -> None:
    """Make the file of every item that has none yet, together with any other processes.

    Returns when all files are there. First come the items that nobody works on; then, one by
    one, those that another process held: by then it has finished them, or died.

    Args:
        num_items: items are numbered from 0.
        path_of: the file of an item; it must appear in one step.
        make: makes it.
        claims: folder of the claim files.
        done: told, in order, the number of each item whose file is there.
    """
    left: Sequence[int] = range(num_items)
    for wait in (False, True):
        held = []
        for item in left:
            path = path_of(item)
            if not path.exists():
                with claim(claims / f"{path.name}.claim", wait=wait) as ours:
                    # Another process may have made it between our look and our claim.
                    if ours and not path.exists():
                        make(item)
            if not path.exists():
                held.append(item)
            elif done is not None:
                done(item)
        left = held
