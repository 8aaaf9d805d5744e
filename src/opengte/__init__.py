"""General text embeddings by multi-stage contrastive learning (GTE and its family)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opengte.loading import load as load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``opengte.load``, imported when it is first asked for: ``import opengte`` costs nothing."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from opengte.loading import load

    return load
