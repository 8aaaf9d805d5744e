"""Freed memory -> given back to the operating system, where the C library is glibc.

Its heap keeps the holes that a stage's activations leave, and the next stage's peak would begin
above them.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys


def trim() -> None:
    """Give free pages of the heap back; does nothing where there is no ``malloc_trim``."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
