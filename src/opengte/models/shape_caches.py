"""oneDNN's and PyTorch's caches of shapes, kept small."""

from __future__ import annotations

import os


def bound_shape_caches() -> None:
    """Let the CPU libraries remember few shapes; values that the environment has stay.

    They keep about 4 MiB for each shape of product they have met, 1,024 of them by default. Packed
    micro-batches have a shape of their own each: 30 steps of the quickstart grew by 0.9 GB that way
    (LOG.md). The libraries read these variables at their first product in the process, so this
    works until then, and does nothing afterwards.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "32")
